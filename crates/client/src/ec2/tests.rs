use super::*;
use crate::exchange::{Answer, read_answer, signed_request};
use crate::{Client, Environment, Error, Secret};
use http::{HeaderMap, StatusCode};
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::sigv4::Credentials;

/// As EC2 writes it, with the elements that clients read and some that we do not.
const PAGE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
    <requestId>8f7724cf-496f-496e-8fe3-example</requestId>
    <reservationSet>
        <item>
            <reservationId>r-1234567890abcdef0</reservationId>
            <ownerId>123456789012</ownerId>
            <groupSet/>
            <instancesSet>
                <item>
                    <instanceId>i-1234567890abcdef0</instanceId>
                    <imageId>ami-bff32ccc</imageId>
                    <instanceState><code>16</code><name>running</name></instanceState>
                    <privateDnsName>ip-192-168-1-88.eu-west-1.compute.internal</privateDnsName>
                    <dnsName/>
                    <instanceType>t2.micro</instanceType>
                    <launchTime>2018-05-08T16:46:19.000Z</launchTime>
                    <placement><availabilityZone>eu-west-1c</availabilityZone><tenancy>default</tenancy></placement>
                    <subnetId>subnet-56f5f633</subnetId>
                    <vpcId>vpc-11112222</vpcId>
                    <privateIpAddress>192.168.1.88</privateIpAddress>
                    <ipAddress>54.194.252.215</ipAddress>
                    <tagSet>
                        <item><key>Name</key><value>R&amp;D "1" &lt;&#x1F600;&gt;</value></item>
                        <item><key>empty</key><value/></item>
                    </tagSet>
                    <networkInterfaceSet><item><privateIpAddress>10.9.9.9</privateIpAddress></item></networkInterfaceSet>
                </item>
            </instancesSet>
        </item>
        <item><instancesSet><item><instanceId>i-2234567890abcdef0</instanceId><ipv6Address>2001:db8::1</ipv6Address></item></instancesSet></item>
    </reservationSet>
    <nextToken>next</nextToken>
</DescribeInstancesResponse>"#;

fn settings(variables: &[(&str, &str)]) -> crate::Settings {
    let region = ("AWS_REGION", "eu-west-1");
    let keys = [region, ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "b")];
    Client::builder()
        .resolve(&Environment::new(keys.into_iter().chain(variables.iter().copied()), None))
        .unwrap()
}

fn answer<O: Operation>(operation: &O, status: u16, body: &str) -> Result<O::Output, Error> {
    let answer = Answer {
        status: StatusCode::from_u16(status).unwrap(),
        headers: HeaderMap::new(),
        body: body.to_owned().into(),
    };
    read_answer(&answer, operation, &settings(&[]), UnixSeconds(0))
}

#[test]
fn a_page() {
    let page = answer(&DescribeInstances::new(), 200, PAGE).unwrap();
    assert_eq!(page.next_token.as_deref(), Some("next"));
    assert_eq!(page.request_id.as_deref(), Some("8f7724cf-496f-496e-8fe3-example"));
    let some = |text: &str| Some(text.to_owned());
    let [one, other] = page.instances.as_slice() else { panic!("{page:?}") };
    let expected = Ec2Instance {
        instance_id: "i-1234567890abcdef0".to_owned(),
        state: some("running"),
        instance_type: some("t2.micro"),
        image_id: some("ami-bff32ccc"),
        availability_zone: some("eu-west-1c"),
        private_ip_address: some("192.168.1.88"),
        public_ip_address: some("54.194.252.215"),
        ipv6_address: None,
        private_dns_name: some("ip-192-168-1-88.eu-west-1.compute.internal"),
        public_dns_name: None,
        vpc_id: some("vpc-11112222"),
        subnet_id: some("subnet-56f5f633"),
        platform: None,
        launch_time: some("2018-05-08T16:46:19.000Z"),
        tags: vec![
            ("Name".to_owned(), "R&D \"1\" <\u{1f600}>".to_owned()),
            ("empty".to_owned(), String::new()),
        ],
    };
    assert_eq!(*one, expected);
    assert_eq!(one.tag("Name"), Some("R&D \"1\" <\u{1f600}>"));
    assert_eq!(other.ipv6_address.as_deref(), Some("2001:db8::1"));
}

#[test]
fn answers_that_are_none() {
    for body in [
        "",
        "{}",
        "<html/>",
        "<DescribeInstancesResponse>",
        "<DescribeInstancesResponse><reservationSet><item><instancesSet><item/></instancesSet></item></reservationSet></DescribeInstancesResponse>",
    ] {
        let error = answer(&DescribeInstances::new(), 200, body).unwrap_err();
        assert!(matches!(error, Error::InvalidAnswer { .. }), "{body}: {error:?}");
        let error = answer(&GetCallerIdentity, 200, body).unwrap_err();
        assert!(matches!(error, Error::InvalidAnswer { .. }), "{body}: {error:?}");
    }
    let nothing = "<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>";
    assert_eq!(answer(&DescribeInstances::new(), 200, nothing).unwrap(), InstancesPage::default());
}

#[test]
fn who_signs() {
    let body = r#"<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
        <Arn>arn:aws:iam::123456789012:user/Alice</Arn><UserId>AIDACKCEVSQ6C2EXAMPLE</UserId><Account>123456789012</Account>
        </GetCallerIdentityResult><ResponseMetadata><RequestId>x</RequestId></ResponseMetadata></GetCallerIdentityResponse>"#;
    let expected = CallerIdentity {
        account: "123456789012".to_owned(),
        arn: "arn:aws:iam::123456789012:user/Alice".to_owned(),
        user_id: "AIDACKCEVSQ6C2EXAMPLE".to_owned(),
    };
    assert_eq!(answer(&GetCallerIdentity, 200, body).unwrap(), expected);
}

#[test]
fn refusals() {
    type IsIt = fn(&Error) -> bool;
    let cases: &[(u16, &str, IsIt)] = &[
        (400, "InvalidInstanceID.NotFound", |error| matches!(error, Error::Ec2InstanceNotFound(_))),
        (400, "InvalidInstanceID.Malformed", |error| matches!(error, Error::InvalidArgs(_))),
        (403, "UnauthorizedOperation", |error| matches!(error, Error::AccessDenied(_))),
        (401, "AuthFailure", |error| matches!(error, Error::UnrecognizedClient(_))),
        (400, "RequestExpired", |error| matches!(error, Error::ClockSkew(_))),
        (403, "SignatureDoesNotMatch", |error| matches!(error, Error::InvalidSignature(_))),
        (400, "InvalidAction", |error| matches!(error, Error::UnknownOperation(_))),
        (503, "RequestLimitExceeded", |error| matches!(error, Error::Throttling(_))),
        (500, "InternalError", |error| matches!(error, Error::Service(_)) && error.is_retryable()),
    ];
    for (status, code, is_it) in cases {
        let ec2 = format!(
            "<?xml version=\"1.0\"?>\n<Response><Errors><Error><Code>{code}</Code><Message>m &amp; n</Message></Error></Errors>\
             <RequestID>id-1</RequestID></Response>"
        );
        let sts = format!(
            "<ErrorResponse xmlns=\"x\"><Error><Type>Sender</Type><Code>{code}</Code><Message>m &amp; n</Message></Error>\
             <RequestId>id-1</RequestId></ErrorResponse>"
        );
        for body in [ec2, sts] {
            let error = answer(&GetCallerIdentity, *status, &body).unwrap_err();
            assert!(is_it(&error), "{error:?}");
            assert_eq!(error.to_string(), format!("{code}: m & n"));
            assert_eq!(error.request_id(), Some("id-1"));
        }
    }
}

#[test]
fn what_is_sent() {
    let request = DescribeInstances::new()
        .instance_id("i-1")
        .instance_id("i-2")
        .filter("tag:Name", ["a b", "\u{e9}*&="])
        .filter("instance-state-name", ["running"])
        .max_results(5)
        .next_token("a+/=");
    assert_eq!(
        request.body(),
        "Action=DescribeInstances&Version=2016-11-15&InstanceId.1=i-1&InstanceId.2=i-2&Filter.1.Name=tag%3AName&\
         Filter.1.Value.1=a%20b&Filter.1.Value.2=%C3%A9%2A%26%3D&Filter.2.Name=instance-state-name&\
         Filter.2.Value.1=running&MaxResults=5&NextToken=a%2B%2F%3D"
    );
    assert_eq!(GetCallerIdentity.body(), "Action=GetCallerIdentity&Version=2011-06-15");

    let credentials = Credentials {
        access_key_id: "AKIDEXAMPLE".to_owned(),
        secret_access_key: Secret::new(b"b".to_vec()),
        session_token: None,
    };
    let settings = settings(&[]);
    let signed = signed_request(&request, &settings, &credentials, UnixSeconds(1_772_368_496)).unwrap();
    let header = |name: &str| signed.headers()[name].to_str().unwrap();
    assert_eq!(header("host"), "ec2.eu-west-1.amazonaws.com");
    assert_eq!(header("content-type"), "application/x-www-form-urlencoded; charset=utf-8");
    let expected = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260301/eu-west-1/ec2/aws4_request, \
                    SignedHeaders=content-type;host;x-amz-date, Signature=";
    assert!(header("authorization").starts_with(expected), "{}", header("authorization"));
    assert!(!signed.headers().contains_key("x-amz-target"));
}

/// Each service's own variable comes before the common one, and what is wrong with one bothers nobody else.
#[test]
fn endpoints() {
    let all = [("AWS_ENDPOINT_URL", "https://all.example"), ("AWS_ENDPOINT_URL_EC2", "https://ec2.example")];
    let url = |settings: &crate::Settings, name| settings.endpoint(name).map(crate::endpoint::Endpoint::url);
    let found = settings(&all);
    assert_eq!(url(&found, EndpointName::InstanceConnect).unwrap(), "https://all.example/");
    assert_eq!(url(&found, EndpointName::Ec2).unwrap(), "https://ec2.example/");
    assert_eq!(url(&found, EndpointName::Sts).unwrap(), "https://all.example/");
    let found =
        settings(&[("AWS_ENDPOINT_URL_EC2", "http://10.0.0.1"), ("AWS_ENDPOINT_URL_STS", "nonsense")]);
    assert_eq!(
        url(&found, EndpointName::InstanceConnect).unwrap(),
        "https://ec2-instance-connect.eu-west-1.amazonaws.com/"
    );
    assert!(url(&found, EndpointName::Ec2).unwrap_err().to_string().contains("plain http is refused"));
    assert!(url(&found, EndpointName::Sts).unwrap_err().to_string().contains("nonsense"));
    let own = Client::builder().endpoint_url("https://own.example").region("eu-west-1");
    let keys = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
    let found = own.resolve(&Environment::new(keys.into_iter().chain(all), None)).unwrap();
    assert_eq!(url(&found, EndpointName::Ec2).unwrap(), "https://own.example/");
}
