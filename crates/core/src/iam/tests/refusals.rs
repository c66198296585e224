//! What is refused when a policy is loaded, and in which words; what loads with a warning; and that nothing panics.

use super::Policy;
use crate::limits;
use proptest::prelude::*;

const PUSH: &str = "ec2-instance-connect:SendSSHPublicKey";

fn document(statement: &str) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#)
}

/// A statement about pushes with this condition.
fn with(effect: &str, action: &str, condition: &str) -> String {
    document(&format!(
        r#"{{"Effect":"{effect}","Action":"{action}","Resource":"*","Condition":{{{condition}}}}}"#
    ))
}

/// Each document is refused in words that contain the text beside it.
fn refused(documents: &[(&str, &str)]) {
    for (document, words) in documents {
        let message =
            Policy::parse("p", document).map(|_| "loads".to_owned()).unwrap_or_else(|e| e.to_string());
        assert!(message.contains(words), "{document}\n{message}\n{words}");
    }
}

#[test]
fn documents() {
    refused(&[
        ("", "EOF"),
        ("{}", "missing field `Statement`"),
        ("[]", "expected an object"),
        (r#"[null,null,[]]"#, "expected an object"),
        (r#"{"Statement":[["a","Allow","*",null,"*",null]]}"#, "expected an object"),
        (r#"{"Statement":[]}"#, "a policy needs a Statement"),
        (r#"{"Statement":"x"}"#, "invalid type: string"),
        (r#"{"Version":"2020-01-01","Statement":[]}"#, r#"unknown Version "2020-01-01"; use "2012-10-17""#),
        (r#"{"Version":20121017,"Statement":[]}"#, "invalid type: integer"),
        (r#"{"Statement":[],"Statements":[]}"#, "unknown field `Statements`"),
        (r#"{"Statement":[],"Statement":[]}"#, "duplicate field `Statement`"),
        (r#"{"statement":[]}"#, "unknown field `statement`"),
    ]);
}

#[test]
fn elements() {
    let allow = r#""Effect":"Allow","Action":"*","Resource":"*""#;
    let rows = [
        ("", "missing field `Effect`"),
        (
            r#""Effect":"allow","Action":"*","Resource":"*""#,
            r#"statement #0: Effect is "Allow" or "Deny", and not "allow""#,
        ),
        (r#""Effect":{"Allow":null},"Action":"*","Resource":"*""#, "invalid type: map, expected a string"),
        (r#""Effect":"Allow","Resource":"*""#, "statement #0: there is no Action; write \"*\" for any"),
        (r#""Effect":"Allow","Action":"*""#, "statement #0: there is no Resource"),
        (r#""Effect":"Allow","Action":[],"Resource":"*""#, "Action lists nothing"),
        (r#""Effect":"Allow","NotAction":[],"Resource":"*""#, "Action lists nothing"),
        (r#""Effect":"Allow","Action":"*","NotResource":[]"#, "Resource lists nothing"),
        (
            r#""Effect":"Allow","Action":"*","NotAction":"s3:*","Resource":"*""#,
            "Action and NotAction stand together",
        ),
        (
            r#""Effect":"Allow","Action":"*","Resource":"*","NotResource":"*""#,
            "Resource and NotResource stand together",
        ),
        (&format!(r#"{allow},"Condtion":{{}}"#), "unknown field `Condtion`"),
        (&format!(r#"{allow},"Principal":"*""#), "unknown field `Principal`"),
        (&format!(r#"{allow},"Effect":"Deny""#), "duplicate field `Effect`"),
        (&format!(r#"{allow},"Sid":"a b""#), "statement a b: a Sid has letters and digits only"),
        (
            &format!(r#"{allow},"Sid":"a"}},{{{allow},"Sid":"a""#),
            "statement a: another statement has this Sid",
        ),
        (&format!(r#"{allow},"Condition":null"#), "invalid type: null, expected an object"),
        (&format!(r#"{allow},"Condition":[]"#), "invalid type: sequence, expected an object"),
    ];
    for (body, words) in rows {
        refused(&[(&document(&format!("{{{body}}}")), words)]);
    }
    // A mistake is found where it stands.
    refused(&[("{\"Statement\":[\n{\"Effect\":\"Allow\",\n\"Resources\":\"*\"}]}", "line 3 column 11")]);
}

#[test]
fn actions_and_resources() {
    for (action, words) in [
        ("nocolon", r#""nocolon" is no action; write "*", or service:Name"#),
        (":Name", "is no action"),
        ("ec2:", "is no action"),
        ("", "is no action"),
        ("ec2:Run Instances", "is no action"),
        ("${aws:username}:*", "is no action"),
        (
            "ec2-instance-connect:SendSSHPublicKeys",
            "ec2-instance-connect has ec2-instance-connect:SendSSHPublicKey,",
        ),
        ("ec2:SendSSHPublicKey", "is no action; write ec2-instance-connect:SendSSHPublicKey"),
        ("ec2-instance-connct:opentunnel", "is no action; write ec2-instance-connect:OpenTunnel"),
        ("EC2-Instance-Connect:Open", "is no action; ec2-instance-connect has"),
        (
            "instance-connect:CreateUsers",
            "is no action; instance-connect has instance-connect:CreateAccount,",
        ),
        ("instance-connect:SendSSHPublicKey", "is no action; instance-connect has"),
    ] {
        for element in ["Action", "NotAction"] {
            let statement = format!(r#"{{"Effect":"Allow","{element}":["s3:*","{action}"],"Resource":"*"}}"#);
            refused(&[(&document(&statement), words)]);
        }
    }
    for (resource, words) in [
        ("", "neither \"*\" nor an ARN"),
        ("i-0123456789abcdef0", "neither \"*\" nor an ARN"),
        ("**", "neither \"*\" nor an ARN"),
        ("ARN:aws:ec2:*:*:instance/*", "neither \"*\" nor an ARN"),
        ("arn:aws:ec2:*", "fewer than the six parts of an ARN"),
        ("arn:aws:ec2:*:instance/*", "fewer than the six parts of an ARN"),
        (
            "arn:aws:ec2:${aws:RequestedRegion}:*:instance/*",
            "a policy variable before its sixth part; write * there",
        ),
        ("arn:aws:ec2:*:${aws:PrincipalAccount}:instance/*", "a policy variable before its sixth part"),
        ("arn:aws:ec2:*:*:instance/${aws:nothing}", "${aws:nothing} is no policy variable"),
        ("arn:aws:ec2:*:*:instance/${aws:username", "has no closing brace"),
    ] {
        for element in ["Resource", "NotResource"] {
            let statement = format!(r#"{{"Effect":"Allow","Action":"s3:*","{element}":["*","{resource}"]}}"#);
            refused(&[(&document(&statement), words)]);
        }
    }
}

/// A Deny that could match nothing for a slip in its resources.
#[test]
fn denies_of_nothing() {
    let statement = |effect: &str, actions: &str, resources: &str| {
        document(&format!(r#"{{"Effect":"{effect}","Action":{actions},"Resource":{resources}}}"#))
    };
    let push = r#""ec2-instance-connect:Send*""#;
    let tunnel = r#""ec2-instance-connect:OpenTunnel""#;
    let users = r#""instance-connect:*User""#;
    let accounts = r#""instance-connect:UpdateAccount""#;
    let lists = r#""instance-connect:ListUsers""#;
    for (actions, resources, matches) in [
        (push, r#""arn:aws:ec2:*:*:instances/*""#, false),
        (push, r#""arn:aws:ec2:*:*:instance""#, false),
        (push, r#""arn:aws:ec2:*:*:i-0123456789abcdef0""#, false),
        (push, r#""arn:aws:ec2:*:*:volume/*""#, false),
        (push, r#""arn:aws:ec2:*:*:instance-connect-endpoint/*""#, false),
        (push, r#""arn:aws:ec2-instance-connect:*:*:instance/*""#, false),
        (push, r#""arn:aws:ec2:::instance/*""#, false),
        (push, r#""arn:aws:ec2:*::instance/*""#, false),
        (push, r#""arn:aws-cn:ec2:*:*:instance/*""#, false),
        (push, r#"["arn:aws:s3:::b","arn:aws:ec2:*:*:Instance/*"]"#, false),
        (tunnel, r#""arn:aws:ec2:*:*:instance/*""#, false),
        (users, r#""arn:aws:iam::111122223333:users/*""#, false),
        (users, r#""arn:aws:iam:us-east-1:111122223333:user/*""#, false),
        (users, r#""arn:aws:iam:::user/*""#, false),
        (users, r#""arn:aws:iam::*:group/*""#, false),
        (users, r#""arn:aws:iam::*:user/alice""#, true),
        (users, r#""arn:aws:iam:*:111122223333:user/${aws:username}""#, true),
        (accounts, r#""arn:aws:instance-connect::111122223333:accounts""#, false),
        (accounts, r#""arn:aws:instance-connect::111122223333:account""#, true),
        (lists, r#""arn:aws:iam::*:user/*""#, false),
        (lists, r#""*""#, true),
        (r#""instance-connect:*""#, r#""arn:aws:iam::*:policy/*""#, true),
        (push, r#"["arn:aws:s3:::b","arn:aws:ec2:*:*:instance/*"]"#, true),
        (push, r#""arn:*:e?2:*:*:inst*""#, true),
        (push, r#""arn:aws:ec2:*:*:*0""#, true),
        (push, r#""arn:aws:ec2:*:*:${aws:PrincipalTag/v}""#, true),
        (push, r#""*""#, true),
        (tunnel, r#""arn:aws:ec2:*:*:instance-connect-endpoint/eice-0123456789abcdef0""#, true),
        (tunnel, r#""arn:aws:ec2:*:*:instance*""#, true),
        (r#""*""#, r#""arn:aws:s3:::b""#, true),
        (r#"["s3:*","ec2-instance-connect:*"]"#, r#""arn:aws:s3:::b""#, true),
    ] {
        let deny = statement("Deny", actions, resources);
        if matches {
            assert!(Policy::parse("p", &deny).is_ok(), "{deny}");
        } else {
            refused(&[(&deny, "is about, and denies nothing; write as ")]);
        }
        assert!(Policy::parse("p", &statement("Allow", actions, resources)).is_ok(), "{resources}");
    }
}

#[test]
fn operators_keys_and_values() {
    for (condition, words) in [
        (
            r#""StringEqual":{"ec2:osuser":"a"}"#,
            r#"statement #0: Condition StringEqual ec2:osuser: "StringEqual" is no condition operator"#,
        ),
        (r#""NullIfExists":{"ec2:osuser":"true"}"#, "Null already asks whether the key exists"),
        (r#""ForAnyValue:Null":{"ec2:osuser":"true"}"#, "Null already asks whether the key exists"),
        (
            r#""foranyvalue:stringequalsifexists":{"ec2:osuser":"a"}"#,
            "write ForAnyValue:StringEquals if the condition shall not hold there, StringEqualsIfExists if it shall",
        ),
        (r#""ForSomeValues:StringEquals":{"ec2:osuser":"a"}"#, "is no condition operator"),
        (
            r#""StringEquals":{"aws:TagKeys":"a"}"#,
            "may have several values of aws:TagKeys; write ForAllValues:StringEquals or ForAnyValue:StringEquals",
        ),
        (r#""StringEquals":{}"#, "statement #0: Condition StringEquals names no condition key"),
        (r#""StringEquals":"a""#, "invalid type: string"),
        (
            r#""StringEquals":{"ec2:osuser":[]}"#,
            "Condition StringEquals ec2:osuser: a condition needs a value",
        ),
        (r#""StringEquals":{"ec2:osuser":null}"#, "invalid type: null, expected a value or a list of values"),
        (r#""StringEquals":{"ec2:osuser":[null]}"#, "expected a string, a number, true or false"),
        (r#""StringEquals":{"ec2:osuser":{}}"#, "expected a string, a number, true or false"),
        (r#""StringEquals":{"ec2:osuser":"a","ec2:osuser":"b"}"#, r#""ec2:osuser" stands twice"#),
        (r#""StringEquals":{"ec2:osuser":"a","EC2:OSUser":"b"}"#, r#""EC2:OSUser" stands twice"#),
        (
            r#""StringLike":{"aws:ResourceTag/É":"a","aws:ResourceTag/é":"b"}"#,
            r#""aws:ResourceTag/é" stands twice"#,
        ),
        (
            r#""StringEquals":{"ec2:osuser":"a"},"StringEquals":{"ec2:osuser":"b"}"#,
            r#""StringEquals" stands twice"#,
        ),
        (
            r#""StringEquals":{"ec2:osuser":"a"},"stringequals":{"ec2:osuser":"b"}"#,
            r#""stringequals" stands twice"#,
        ),
        (r#""StringEquals":{"osuser":"a"}"#, r#""osuser" is no condition key; write service:Name"#),
        (r#""StringEquals":{"aws:ResourceTag/":"a"}"#, "names no tag"),
        (r#""StringEquals":{"aws:ResourceTag/env*":"a"}"#, "names no tag; write its key behind the slash"),
        (r#""StringEquals":{"aws:PrincipalTag/${aws:username}":"a"}"#, "names no tag"),
        (r#""NumericEquals":{"aws:EpochTime":["1","one"]}"#, r#""one" is not a number, such as 22 or 0.5"#),
        (r#""NumericEquals":{"aws:EpochTime":"1*"}"#, "is not a number"),
        (r#""DateLessThan":{"aws:CurrentTime":"10.02.2031"}"#, "is not a date, such as 2031-02-10T04:05:06Z"),
        (
            r#""DateLessThan":{"aws:CurrentTime":["0","20310101"]}"#,
            r#""20310101" is not a date, such as 2031-02-10T04:05:06Z, 2031-02-10,"#,
        ),
        (r#""DateGreaterThan":{"aws:EpochTime":202710}"#, r#""202710" is not a date"#),
        (r#""Bool":{"aws:SecureTransport":"yes"}"#, r#""yes" is not true or false"#),
        (r#""Null":{"ec2:osuser":"yes"}"#, r#""yes" is not true or false"#),
        (r#""BinaryEquals":{"aws:PrincipalTag/v":"*"}"#, "is not base64"),
        (
            r#""IpAddress":{"aws:SourceIp":"192.0.2.0/33"}"#,
            "is not an address or network, such as 192.0.2.0/24",
        ),
        (r#""IpAddress":{"aws:SourceIp":"192.0.2.*"}"#, "is not an address or network"),
        (r#""ArnLike":{"aws:PrincipalArn":"*"}"#, "is not an ARN of six parts; write arn:*:*:*:*:* for any"),
        (
            r#""NumericEquals":{"aws:CurrentTime":"1"}"#,
            "NumericEquals cannot read aws:CurrentTime, which is a date",
        ),
        (r#""NotIpAddress":{"aws:UserAgent":"192.0.2.1","aws:CurrentTime":"192.0.2.1"}"#, "which is a date"),
        (r#""DateLessThan":{"aws:SourceIp":"2031"}"#, "which is an IP address"),
        (r#""Bool":{"aws:PrincipalArn":"true"}"#, "which is an ARN"),
        (r#""BinaryEquals":{"aws:SecureTransport":"dHJ1ZQ=="}"#, "which is true or false"),
        (r#""ArnLike":{"aws:EpochTime":"arn:*:*:*:*:*"}"#, "which is a number of seconds"),
    ] {
        refused(&[(&with("Allow", PUSH, condition), words), (&with("Deny", PUSH, condition), words)]);
    }
}

#[test]
fn variables() {
    for (value, words) in [
        ("${aws:nothing}", "${aws:nothing} is no policy variable"),
        ("${s3:prefix}", "is no policy variable"),
        ("${aws:TagKeys}", "is no policy variable: a request may have several values of it"),
        ("${}", "${} is no policy variable"),
        ("${ aws:username}", "is no policy variable"),
        ("${aws:username", "has no closing brace"),
        ("${", "has no closing brace"),
        ("${aws:PrincipalTag/}", "is no policy variable"),
        ("${aws:PrincipalTag/${aws:username}}", "is no policy variable"),
        ("${aws:username,}", "is written ${aws:username, 'default'}"),
        ("${aws:username, x}", "is written ${aws:username, 'default'}"),
        ("${aws:username, 'x}", "is written ${aws:username, 'default'}"),
        ("${aws:username, 'x' }", "is written ${aws:username, 'default'}"),
        ("${aws:username, 'a'b'}", "is written ${aws:username, 'default'}"),
        ("${aws:username,, 'x'}", "is written ${aws:username, 'default'}"),
        ("${**}", "is no policy variable"),
        (&"${aws:username}".repeat(9), "one value has at most 8 policy variables"),
    ] {
        let condition = format!(r#""StringEquals":{{"aws:PrincipalTag/v":"{value}"}}"#);
        refused(&[(&with("Allow", PUSH, &condition), words), (&with("Allow", "s3:*", &condition), words)]);
    }
    for (operator, key) in [
        ("NumericEquals", "aws:EpochTime"),
        ("DateEquals", "aws:CurrentTime"),
        ("Bool", "aws:SecureTransport"),
        ("BinaryEquals", "aws:PrincipalTag/v"),
        ("IpAddress", "aws:SourceIp"),
        ("Null", "aws:username"),
    ] {
        let condition = format!(r#""{operator}":{{"{key}":"${{aws:username}}"}}"#);
        refused(&[(&with("Allow", PUSH, &condition), "only String and Arn operators take policy variables")]);
    }
    assert!(
        Policy::parse(
            "p",
            &with(
                "Allow",
                PUSH,
                &format!(r#""StringEquals":{{"aws:PrincipalTag/v":"{}"}}"#, "${aws:username}".repeat(8))
            )
        )
        .is_ok()
    );
}

/// Messages end in logs and on terminals.
#[test]
fn messages_are_one_line() {
    for condition in [
        r#""String\n":{"ec2:osuser":"a"}"#,
        r#""StringEquals":{"ec2:\u001b[31m":"a"}"#,
        r#""StringEquals":{"osuser\r\n":"a"}"#,
        r#""StringEquals":{"ec2:osuser":"${aws:\n}"}"#,
        r#""StringEquals":{"ec2:osuser":"a","\n":"b","\n":"c"}"#,
        r#""String\u2028":{"ec2:osuser":"a"}"#,
        r#""StringEquals":{"ec2:\u202e":"a"}"#,
        r#""StringEquals":{"osuser\u200b":"a"}"#,
    ] {
        let message = Policy::parse("p", &with("Deny", PUSH, condition)).unwrap_err().to_string();
        let hidden = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{202e}' | '\u{200b}');
        assert!(!message.contains(hidden) && message.contains('\\'), "{message}");
    }
    let policy = Policy::parse("p", &with("Allow", PUSH, r#""StringEquals":{"s3:é\u202e":"a"}"#)).unwrap();
    assert!(policy.warnings()[0].contains(r"StringEquals s3:é\u{202e}: "), "{:?}", policy.warnings());
    let message = Policy::parse("p", &document(r#"{"Con\ndition":1}"#)).unwrap_err().to_string();
    assert!(message.contains(r"unknown field `Con\ndition`"), "{message}");
}

/// A key that requests never have is refused wherever it does more than to narrow an Allow.
#[test]
fn keys_that_requests_never_have() {
    let operators =
        ["StringEquals", "StringNotEquals", "StringEqualsIfExists", "ForAllValues:StringEquals", "Null"];
    let both = "ec2-instance-connect:Send*";
    for (action, key, never) in [
        (PUSH, "s3:prefix", "requests for ec2-instance-connect:SendSSHPublicKey never have s3:prefix"),
        (PUSH, "aws:PrincipalOrgID", "never have aws:PrincipalOrgID"),
        ("*", "s3:prefix", "SendSSHPublicKey, ec2-instance-connect:SendSerialConsoleSSHPublicKey, ec2-inst"),
        (
            both,
            "ec2:osuser",
            "requests for ec2-instance-connect:SendSerialConsoleSSHPublicKey never have ec2:osuser",
        ),
        (PUSH, "ec2-instance-connect:remotePort", "never have ec2-instance-connect:remotePort"),
    ] {
        let condition = |operator| format!(r#""{operator}":{{"{key}":"true"}}"#);
        for operator in operators {
            refused(&[(&with("Deny", action, &condition(operator)), never)]);
        }
        for operator in &operators[1..] {
            refused(&[(&with("Allow", action, &condition(operator)), never)]);
        }
        for operator in ["StringEquals", "StringLike", "ForAnyValue:StringEquals"] {
            let policy = Policy::parse("p", &with("Allow", action, &condition(operator))).unwrap();
            let [warning] = policy.warnings() else { panic!("{:?}", policy.warnings()) };
            assert!(warning.contains(never) && warning.ends_with("so nothing is allowed there"), "{warning}");
            assert!(warning.starts_with(&format!("statement #0: Condition {operator} {key}: ")), "{warning}");
        }
    }
    // It is the actions that the statement can match that count.
    let not_action = |effect: &str, not_action: &str| {
        let condition = r#""Condition":{"StringNotEquals":{"ec2:osuser":"root"}}"#;
        document(&format!(r#"{{"Effect":"{effect}","NotAction":{not_action},"Resource":"*",{condition}}}"#))
    };
    refused(&[(&not_action("Deny", r#""s3:*""#), "never have ec2:osuser")]);
    let rest = r#"["ec2-instance-connect:OpenTunnel","ec2-instance-connect:SendSerial*","instance-connect:*","ec2:*"]"#;
    assert!(Policy::parse("p", &not_action("Deny", rest)).unwrap().warnings().is_empty());
    // What is about other services is none of our business.
    for operator in operators {
        let condition = format!(r#""{operator}":{{"s3:prefix":"true"}}"#);
        for action in ["s3:ListBucket", "ec2:Run*", "iam:Get*"] {
            let policy = Policy::parse("p", &with("Deny", action, &condition)).unwrap();
            assert!(policy.warnings().is_empty(), "{:?}", policy.warnings());
        }
    }
}

#[test]
fn variables_that_requests_never_have() {
    let condition = r#""StringEquals":{"aws:PrincipalTag/v":"${ec2:osuser}"}"#;
    let never = "${ec2:osuser}: requests for ec2-instance-connect:SendSerialConsoleSSHPublicKey never have ec2:osuser";
    refused(&[(&with("Deny", "ec2-instance-connect:Send*", condition), never)]);
    let policy = Policy::parse("p", &with("Allow", "ec2-instance-connect:Send*", condition)).unwrap();
    assert!(policy.warnings()[0].contains(never));
    let resource = |effect: &str| {
        document(&format!(
            r#"{{"Effect":"{effect}","Action":"*","Resource":"arn:aws:ec2:*:*:instance/${{ec2:osuser}}"}}"#
        ))
    };
    refused(&[(&resource("Deny"), "never have ec2:osuser; name in Action only what has it")]);
    assert_eq!(Policy::parse("p", &resource("Allow")).unwrap().warnings().len(), 1);
    assert!(Policy::parse("p", &with("Deny", PUSH, condition)).unwrap().warnings().is_empty());
}

#[test]
fn literal_variables_are_warned_of() {
    for (statement, warned) in [
        (r#""Resource":"arn:aws:ec2:*:${x}:instance/${aws:username}""#, true),
        (r#""Resource":"arn:aws:ec2:*:*:instance/\u0024{aws:username}""#, true),
        (
            r#""NotResource":["arn:aws:ec2:*:*:instance/i-1","arn:aws:ec2:*:*:instance/${aws:username}"]"#,
            true,
        ),
        (r#""Resource":"*","Condition":{"StringEquals":{"ec2:osuser":["a","${aws:username}"]}}"#, true),
        (r#""Resource":"*","Condition":{"StringEquals":{"ec2:osuser":"$ {aws:username}"}}"#, false),
    ] {
        let document = format!(r#"{{"Statement":{{"Effect":"Allow","Action":"{PUSH}",{statement}}}}}"#);
        let policy = Policy::parse("p", &document).unwrap();
        let is_warned =
            policy.warnings().iter().any(|warning| warning.contains("is no variable but literal text"));
        assert_eq!(is_warned, warned, "{statement}: {:?}", policy.warnings());
    }
}

#[test]
fn size() {
    let statement = |sid: &str| format!(r#"{{"Sid":"{sid}","Effect":"Allow","Action":"*","Resource":"*"}}"#);
    let free = limits::POLICY_DOCUMENT - document(&statement("")).len();
    let largest = document(&statement(&"s".repeat(free)));
    assert!(Policy::parse("p", &largest).is_ok());
    assert!(Policy::parse("p", &largest.replace(',', ",\n\t\r    ")).is_ok());
    let words = "at most 6144 characters without white space";
    refused(&[(&document(&statement(&"s".repeat(free + 1))), words)]);
    refused(&[(&(document(&statement("s")) + &" ".repeat(limits::POLICY_TEXT)), words)]);
    // The figures in `limits`.
    let most = vec![r#"{"Effect":"Deny","Action":"*","Resource":"*"}"#; 134].join(",");
    assert!(Policy::parse("p", &document(&most)).is_err());
    // Deep nesting ends in an error too.
    let deep = with("Deny", PUSH, &format!(r#""StringEquals":{{"ec2:osuser":{}"#, "[".repeat(2000)));
    refused(&[(&deep, "recursion limit exceeded")]);
}

#[test]
fn accepted() {
    for statement in [
        r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#,
        r#"{"Sid":"a","Effect":"Deny","Action":["ec2-instance-connect:Send*"],"Resource":["arn:aws:ec2:*:*:instance/*"]}"#,
        r#"{"Effect":"Allow","Action":"a:B","Resource":"*","Condition":{"StringEquals":{"EC2:OSUser":["a","b"]}}}"#,
        r#"{"Effect":"Allow","Action":"*","Resource":"*","Condition":{}}"#,
        r#"{"Effect":"Allow","NotAction":"iam:*","NotResource":"arn:aws:s3:::b"}"#,
    ] {
        let policy = Policy::parse("p", &document(statement)).unwrap();
        assert!(policy.warnings().is_empty(), "{statement}: {:?}", policy.warnings());
    }
    for document in [
        r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#,
        r#"{"Version":"2008-10-17","Id":"x","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#,
    ] {
        assert!(Policy::parse("p", document).is_ok(), "{document}");
    }
}

proptest! {
    #[test]
    fn policy_never_panics(
        any: String,
        body in "(\"(Effect|(Not)?Action|(Not)?Resource|Condition|Sid)\":(\"[a-zA-Z:*${},' ]{0,20}\"|\\{\\}|\\[\\]|null),?){0,5}",
        operator in "(ForA(ll|ny)Values?:)?(String(Not)?(Equals|Like)|Numeric(Not)?Equals|Date(Less)Than|Arn(Not)?Like|(Not)?IpAddress|Bool|BinaryEquals|Null)(IfExists)?",
        key in "aws:(PrincipalTag/)?[a-zA-Z*/${}]{0,10}|aws:(SourceIp|CurrentTime|EpochTime|username|PrincipalArn)",
        value in "[-0-9a-zA-Zé:./*?${}, ']{0,30}|\\$\\{(aws:username|\\*|aws:PrincipalTag/[a-z ]{0,5})(, ?'[a-z*}]{0,5}')?\\}?",
    ) {
        let condition = format!(r#""{operator}":{{"{key}":["{value}"]}}"#);
        let documents =
            [any, document(&format!("{{{body}}}")), with("Allow", PUSH, &condition), with("Deny", "*", &condition)];
        for document in documents {
            let messages = match Policy::parse("p", &document) {
                Ok(policy) => policy.warnings().join(""),
                Err(error) => error.to_string(),
            };
            prop_assert!(!messages.contains(char::is_control), "{}", messages);
        }
    }
}
