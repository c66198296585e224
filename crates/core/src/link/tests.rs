//! The frames' bytes: golden ones, generated ones, and those that are none.

use super::*;
use crate::console::Mode;
use crate::host_facts::{HostAddress, HostFacts};
use instance_connect_document::{BootInstant, Fingerprint, OsUser, RequestId, ServerInstant, SessionId};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use std::net::IpAddr;

const UUID: &str = "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11";

/// [`UUID`] as it stands in a frame.
const UUID_HEX: &str = "30623766316335322d366130652d346331312d396430622d316335613666306539613131";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn owned_line() -> OwnedLine {
    OwnedLine { instance: "i-0abcdef1".parse().unwrap(), port: 0 }
}

fn golden_agent_frames() -> Vec<(AgentFrame, String)> {
    let request_id: RequestId = UUID.parse().unwrap();
    let offered = Offered {
        offered_at: BootInstant(7),
        lost: 2,
        fingerprint: Fingerprint::from_bytes([0xab; 32]),
        os_user: "ubuntu".parse().unwrap(),
        request_ids: vec![request_id.clone(); 2],
    };
    let key_use = KeyUse {
        event: UseEvent::Opened,
        at: BootInstant(7),
        lost: 2,
        session: SessionId { process: 0x0102_0304, started: 5 },
        fingerprint: Fingerprint::from_bytes([0xab; 32]),
        os_user: "ubuntu".parse().unwrap(),
        from: "::1".parse().unwrap(),
        request_ids: vec![request_id.clone()],
    };
    let unused = ExpiredUnused {
        at: BootInstant(7),
        lost: 0,
        fingerprint: Fingerprint::from_bytes([0xab; 32]),
        os_user: "ubuntu".parse().unwrap(),
        request_id,
    };
    let hello = Hello {
        version_min: 1,
        version_max: 2,
        capabilities: Capabilities::METADATA,
        sent_at: BootInstant(0x0102_0304_0506_0708),
        boot_id: UUID.parse().unwrap(),
        agent_version: "0.1.0".parse().unwrap(),
    };
    let facts = HostFacts {
        hostname: "web".parse().unwrap(),
        os_id: "d".parse().unwrap(),
        os_version: "12".parse().unwrap(),
        os_name: "D".parse().unwrap(),
        kernel: "6.1".parse().unwrap(),
        architecture: "x86_64".parse().unwrap(),
        addresses: ["10.0.1.9", "2001:db8::9"].map(|text| text.parse().unwrap()).into(),
    };
    let ack = |outcome| AgentFrame::Ack(Ack { id: GrantId(9), outcome });
    let of_guest =
        |report| AgentFrame::GuestReport(GuestReport { instance: "i-0abcdef1".parse().unwrap(), report });
    let guest = format!("140a{}", hex(b"i-0abcdef1"));
    let offered_hex = format!(
        "{}{}06{}02{UUID_HEX}{UUID_HEX}",
        "000000000000000700000002",
        "ab".repeat(32),
        hex(b"ubuntu")
    );
    let unused_hex =
        format!("{}{}06{}{UUID_HEX}", "000000000000000700000000", "ab".repeat(32), hex(b"ubuntu"));
    vec![
        (
            AgentFrame::Hello(hello),
            format!("81{}{}{}{UUID_HEX}05302e312e30", "0102", "00000001", "0102030405060708"),
        ),
        (of_guest(GuestKey::Offered(offered.clone())), format!("{guest}01{offered_hex}")),
        (of_guest(GuestKey::ExpiredUnused(unused.clone())), format!("{guest}02{unused_hex}")),
        (AgentFrame::Ping(Ping { sent_at: BootInstant(1) }), "830000000000000001".to_owned()),
        (ack(AckOutcome::Installed { os_user_exists: true }), "8700000000000000090000".to_owned()),
        (ack(AckOutcome::Installed { os_user_exists: false }), "8700000000000000090001".to_owned()),
        (ack(AckOutcome::Refused(Refusal::NoClock)), "8700000000000000090101".to_owned()),
        (ack(AckOutcome::Refused(Refusal::Other(200))), "87000000000000000901c8".to_owned()),
        (
            AgentFrame::Withdrawn(Withdrawn { id: WithdrawId(3), removed: true }),
            "89000000000000000301".to_owned(),
        ),
        (
            AgentFrame::Offered(offered),
            format!(
                "0a{}{}{}06{}02{UUID_HEX}{UUID_HEX}",
                "0000000000000007",
                "00000002",
                "ab".repeat(32),
                "7562756e7475"
            ),
        ),
        (
            AgentFrame::KeyUse(key_use),
            format!(
                "0c02{}{}{}{}06{}03{}01{UUID_HEX}",
                "0000000000000007",
                "00000002",
                "010203040000000000000005",
                "ab".repeat(32),
                "7562756e7475",
                "3a3a31"
            ),
        ),
        (
            AgentFrame::ExpiredUnused(unused),
            format!(
                "0d{}{}{}06{}{UUID_HEX}",
                "0000000000000007",
                "00000000",
                "ab".repeat(32),
                "7562756e7475"
            ),
        ),
        (
            AgentFrame::HostKeys(ReportedHostKeys { lines: vec!["ssh-x A".parse().unwrap(); 2] }),
            format!("1102{0}{0}", "00077373682d782041"),
        ),
        (
            AgentFrame::HostFacts(Box::new(facts)),
            format!(
                "15{}02{}{}",
                hex(b"\x03web\x01d\x0212\x01D\x036.1\x06x86_64"),
                "00000000000000000000ffff0a000109",
                "20010db8000000000000000000000009"
            ),
        ),
        (
            AgentFrame::Anchors(HeldAnchors { set: 2, sha256: [0xab; 32] }),
            format!("9000000002{}", "ab".repeat(32)),
        ),
        (AgentFrame::Renew(Renew { request: "--\n".parse().unwrap() }), "8e00032d2d0a".to_owned()),
        (
            AgentFrame::Lines(ReportedLines { lines: vec![owned_line()] }),
            format!("1600010a{}00", hex(b"i-0abcdef1")),
        ),
        (
            AgentFrame::StreamRefused(StreamRefused { id: StreamId(5), refusal: StreamRefusal::NoSuchLine }),
            "98000000000000000501".to_owned(),
        ),
        (AgentFrame::Goodbye(Goodbye::new(GoodbyeCode::ShuttingDown, "bye")), "8b0103627965".to_owned()),
    ]
}

fn golden_server_frames() -> Vec<(ServerFrame, String)> {
    let welcome = Welcome {
        version: 1,
        capabilities: Capabilities::NONE,
        sent_at: BootInstant(1),
        server_time: ServerInstant(2),
        server_clock: UUID.parse().unwrap(),
        server_version: "0.1.0".parse().unwrap(),
    };
    let withdraw = Withdraw {
        id: WithdrawId(3),
        request_id: UUID.parse().unwrap(),
        fingerprint: Fingerprint::from_bytes([0xab; 32]),
        os_user: "root".parse().unwrap(),
    };
    let twinned = Grant {
        id: GrantId(9),
        deadline: ServerInstant(1),
        document: "#\n".parse().unwrap(),
        twins: vec![Twin { generation: 3, signature: Box::new([0xcd; 256]) }],
    };
    let signers = StockSigners {
        each: vec![StockSigner {
            generation: 3,
            is_revoked: true,
            chain: "a\n".parse().unwrap(),
            staples: vec![Staple {
                name: StapleName([0xef; 20]),
                response: StapleBytes::new(&[0x30]).unwrap(),
            }],
        }],
    };
    let facts = InstanceFacts {
        instance: "i-0abcdef1".parse().unwrap(),
        account: "111122223333".parse().unwrap(),
        region: "us-east-1".parse().unwrap(),
        availability_zone: "us-east-1a".parse().unwrap(),
        domain: "amazonaws.com".parse().unwrap(),
        tags: [("k".to_owned(), "v".to_owned())].into(),
    };
    let facts_hex = |count: &str| {
        let texts = ["i-0abcdef1", "111122223333", "us-east-1", "us-east-1a", "amazonaws.com"];
        let texts = texts.map(|text| format!("{:02x}{}", text.len(), hex(text.as_bytes())));
        format!("93{}{count}", texts.concat())
    };
    vec![
        (
            ServerFrame::Grant(twinned),
            format!("91{:016x}{:016x}000223{}{}{}", 9, 1, "0a", "0100000003", "cd".repeat(256)),
        ),
        (
            ServerFrame::StockSigners(signers),
            format!("92{}{}{}{}{}", "01", "0000000301", "0002610a", "01", "ef".repeat(20)) + "000130",
        ),
        (ServerFrame::StockSigners(StockSigners::default()), "9200".to_owned()),
        (ServerFrame::Instance(facts), facts_hex("01016b000176")),
        (
            ServerFrame::Welcome(welcome),
            format!("8201{}{}{}{UUID_HEX}05302e312e30", "00000000", "0000000000000001", "0000000000000002"),
        ),
        (
            ServerFrame::Pong(Pong { sent_at: BootInstant(1), server_time: ServerInstant(2) }),
            "8400000000000000010000000000000002".to_owned(),
        ),
        (
            ServerFrame::Signer(Signer { statement: "ed25519".parse().unwrap() }),
            "85000765643235353139".to_owned(),
        ),
        (
            ServerFrame::Grant(Grant {
                id: GrantId(9),
                deadline: ServerInstant(60_000_000_000),
                document: "#\n".parse().unwrap(),
                twins: Vec::new(),
            }),
            "8600000000000000090000000df84758000002230a".to_owned(),
        ),
        (
            ServerFrame::Withdraw(withdraw),
            format!("880000000000000003{UUID_HEX}{}04726f6f74", "ab".repeat(32)),
        ),
        (ServerFrame::Renew, "8e".to_owned()),
        (ServerFrame::Anchors("#\n".parse().unwrap()), "900002230a".to_owned()),
        (
            ServerFrame::Renewed(Renewed { chain: "a\n".parse().unwrap(), server_ca: "b".parse().unwrap() }),
            "8f0002610a000162".to_owned(),
        ),
        (
            ServerFrame::OpenStream(OpenStream {
                id: StreamId(5),
                ticket: StreamTicket::from_bytes([0xab; 32]),
                line: owned_line(),
                mode: Mode::Watch,
                replay: 258,
            }),
            format!("970000000000000005{}0a{}000100000102", "ab".repeat(32), hex(b"i-0abcdef1")),
        ),
        (ServerFrame::Goodbye(Goodbye::new(GoodbyeCode::Replaced, "")), "8b0500".to_owned()),
    ]
}

#[test]
fn golden_frames() {
    for (frame, golden) in golden_agent_frames() {
        assert_eq!(hex(&frame.encode()), golden, "{frame:?}");
        assert_eq!(AgentFrame::decode(&unhex(&golden)), Ok(Some(frame)));
    }
    for (frame, golden) in golden_server_frames() {
        assert_eq!(hex(&frame.encode()), golden, "{frame:?}");
        assert_eq!(ServerFrame::decode(&unhex(&golden)), Ok(Some(frame)));
    }
}

#[test]
fn every_truncation_and_every_longer_frame_is_refused() {
    let golden = golden_agent_frames().into_iter().map(|(_, hex)| (true, hex));
    for (from_agent, golden) in golden.chain(golden_server_frames().into_iter().map(|(_, hex)| (false, hex)))
    {
        let bytes = unhex(&golden);
        let decode = |bytes: &[u8]| match from_agent {
            true => AgentFrame::decode(bytes).map(drop),
            false => ServerFrame::decode(bytes).map(drop),
        };
        for length in 1..bytes.len() {
            assert_eq!(decode(&bytes[..length]), Err(FrameError::Truncated), "{golden} cut to {length}");
        }
        assert_eq!(decode(&[&bytes[..], &[0]].concat()), Err(FrameError::Trailing), "{golden}");
    }
    assert_eq!(AgentFrame::decode(&[]), Err(FrameError::Empty));
    assert_eq!(AgentFrame::decode(&[0x0f; limits::FRAME + 1]), Err(FrameError::TooLong));
    assert_eq!(AgentFrame::decode(&[0x0f; limits::FRAME]), Ok(None));
}

/// As many and as long as there may be still make one frame.
#[test]
fn the_largest_report_of_host_keys_is_a_frame() {
    let line = "k".repeat(limits::HOST_KEY_LINE).parse().unwrap();
    let frame = AgentFrame::HostKeys(ReportedHostKeys { lines: vec![line; limits::HOST_KEYS] });
    assert_eq!(AgentFrame::decode(&frame.encode()), Ok(Some(frame)));
}

#[test]
fn the_largest_report_of_host_facts_is_a_frame() {
    let fact = || "x".repeat(limits::FACT).parse().unwrap();
    let facts = HostFacts {
        hostname: fact(),
        os_id: fact(),
        os_version: fact(),
        os_name: fact(),
        kernel: fact(),
        architecture: fact(),
        addresses: vec!["2001:db8::9".parse().unwrap(); limits::HOST_ADDRESSES],
    };
    let frame = AgentFrame::HostFacts(Box::new(facts.clone()));
    assert_eq!(AgentFrame::decode(&frame.encode()), Ok(Some(frame.clone())));
    // Nobody sends more than is taken.
    let more = HostFacts { addresses: vec![facts.addresses[0]; limits::HOST_ADDRESSES + 1], ..facts };
    assert_eq!(AgentFrame::HostFacts(Box::new(more)).encode(), frame.encode());
}

#[test]
fn the_largest_report_of_lines_is_a_frame() {
    let line = OwnedLine { instance: "i-0123456789abcdef0".parse().unwrap(), port: 0 };
    let frame = AgentFrame::Lines(ReportedLines { lines: vec![line.clone(); limits::LINES] });
    assert_eq!(AgentFrame::decode(&frame.encode()), Ok(Some(frame.clone())));
    let more = ReportedLines { lines: vec![line; limits::LINES + 1] };
    assert_eq!(AgentFrame::Lines(more).encode(), frame.encode());
    let mut too_many = frame.encode();
    too_many[2] += 1;
    assert_eq!(AgentFrame::decode(&too_many), Err(FrameError::Malformed("line count")));
}

#[test]
fn a_ticket_has_one_spelling() {
    let ticket = StreamTicket::from_bytes([0xab; 32]);
    assert_eq!(StreamTicket::from_header(&ticket.header()), Some(ticket.clone()));
    assert_eq!(format!("{ticket:?}"), "StreamTicket(..)");
    let header = ticket.header();
    for wrong in
        ["", "a", &header[1..], &format!("{header}="), &format!("{header}A"), &header.replace('q', "+")]
    {
        assert_eq!(StreamTicket::from_header(wrong), None, "{wrong}");
    }
}

#[test]
fn unknown_kinds_are_ignored_or_fatal_by_their_high_bit() {
    let known = |from: &[String], kind: u8| from.iter().any(|golden| unhex(golden)[0] == kind);
    let agent_kinds: Vec<String> = golden_agent_frames().into_iter().map(|(_, hex)| hex).collect();
    let server_kinds: Vec<String> = golden_server_frames().into_iter().map(|(_, hex)| hex).collect();
    for kind in 0..=u8::MAX {
        let expected = if kind < 0x80 { Ok(()) } else { Err(FrameError::UnknownCritical(kind)) };
        if !known(&agent_kinds, kind) {
            assert_eq!(AgentFrame::decode(&[kind, 1, 2]).map(|frame| assert!(frame.is_none())), expected);
        }
        if !known(&server_kinds, kind) {
            assert_eq!(ServerFrame::decode(&[kind, 1, 2]).map(|frame| assert!(frame.is_none())), expected);
        }
    }
}

#[test]
fn malformed_fields_are_named() {
    let agent = |hex: String| AgentFrame::decode(&unhex(&hex)).unwrap_err();
    let server = |hex: String| ServerFrame::decode(&unhex(&hex)).unwrap_err();
    let malformed = FrameError::Malformed;
    let hello =
        |versions: &str, uuid: &str, text: &str| format!("81{versions}000000010102030405060708{uuid}{text}");
    assert_eq!(agent(hello("0201", UUID_HEX, "00")), malformed("version range"));
    assert_eq!(agent(hello("0101", &"41".repeat(36), "00")), malformed("boot id"));
    assert_eq!(agent(hello("0101", UUID_HEX, "010a")), malformed("agent version"));
    assert_eq!(agent(hello("0101", UUID_HEX, &format!("41{}", "30".repeat(65)))), malformed("agent version"));
    assert_eq!(agent("8700000000000000090002".to_owned()), malformed("ack outcome"));
    assert_eq!(agent("16000104692d30310000".to_owned()), malformed("instance id"));
    let open = |end: &str| format!("970000000000000005{}0a{}{end}", "ab".repeat(32), hex(b"i-0abcdef1"));
    assert_eq!(server(open("000200000000")), malformed("mode"));
    assert_eq!(agent("8700000000000000090200".to_owned()), malformed("ack outcome"));
    assert_eq!(agent("89000000000000000302".to_owned()), malformed("withdrawn outcome"));
    let offered = |rest: &str| format!("0a000000000000000700000000{}{rest}", "ab".repeat(32));
    assert_eq!(agent(offered("0061")), malformed("OS user"));
    assert_eq!(agent(offered(&format!("017511{}", UUID_HEX.repeat(17)))), malformed("request count"));
    assert_eq!(agent(format!("1109{}", "0000".repeat(9))), malformed("host key count"));
    assert_eq!(agent("110100010a".to_owned()), malformed("host key"));
    assert_eq!(agent(format!("11010401{}", "61".repeat(0x0401))), malformed("host key"));
    assert_eq!(agent("8b01010a".to_owned()), malformed("goodbye text"));
    let guest = |rest: &str| format!("140a{}{rest}", hex(b"i-0abcdef1"));
    assert_eq!(agent(format!("140a{}01", hex(b"i-0abcdefg"))), malformed("instance id"));
    assert_eq!(agent(guest("03")), malformed("report on a guest"));
    let facts = |texts: &str, rest: &str| format!("15{texts}{rest}");
    assert_eq!(agent(facts("010a", "")), malformed("host name"));
    assert_eq!(agent(facts("03611b62", "")), malformed("host name"));
    assert_eq!(agent(facts("0002c3a9", "")), malformed("OS id"));
    assert_eq!(agent(facts(&format!("000081{}", "61".repeat(0x81)), "")), malformed("OS version"));
    assert_eq!(agent(facts("000000017f", "")), malformed("OS name"));
    assert_eq!(agent(facts("0000000001c2", "")), malformed("kernel"));
    assert_eq!(agent(facts("00000000000100", "")), malformed("architecture"));
    assert_eq!(agent(facts("000000000000", "11")), malformed("address count"));
    // Loopback, in both families, and the metadata service.
    for address in [
        "00000000000000000000ffff7f000001",
        "00000000000000000000000000000001",
        "00000000000000000000ffffa9fea9fe",
    ] {
        assert_eq!(agent(facts("000000000000", &format!("01{address}"))), malformed("address"));
    }
    let twinned = format!("91{:016x}{:016x}000223", 9, 1) + "0a";
    assert_eq!(server(twinned.clone() + "00"), malformed("signature count"));
    assert_eq!(server(twinned + "03"), malformed("signature count"));
    assert_eq!(server("9203".to_owned()), malformed("signer count"));
    let signer = |generation: u8, revoked: u8| format!("000000{generation:02x}{revoked:02x}000000");
    assert_eq!(server(format!("9201{}", signer(1, 2))), malformed("revocation"));
    assert_eq!(server(format!("9202{}{}", signer(2, 0), signer(2, 0))), malformed("order of signers"));
    assert_eq!(server(format!("920100000001001001{}", "61".repeat(0x1001))), malformed("signer chain"));
    assert_eq!(server("9201".to_owned() + "00000001" + "00" + "0000" + "04"), malformed("staple count"));
    let staple = format!("9201{}{}{}0301{}", "0000000100", "000001", "ef".repeat(20), "30".repeat(0x301));
    assert_eq!(server(staple), malformed("staple"));
    let instance = |tags: &str| {
        let texts = ["i-0abcdef1", "111122223333", "us-east-1", "us-east-1a", "a"];
        let texts = texts.map(|text| format!("{:02x}{}", text.len(), hex(text.as_bytes())));
        format!("93{}{tags}", texts.concat())
    };
    assert_eq!(server(instance("33")), malformed("tag count"));
    // `a/b` is no path of its own.
    assert_eq!(server(instance("0103612f62000176")), malformed("tags"));
    for second in ["016b000176", "016a000176"] {
        assert_eq!(server(instance("02016b000176") + second), malformed("order of tags"));
    }
    assert_eq!(server("850001ff".to_owned()), malformed("statement"));
    assert_eq!(agent("8e00010d".to_owned()), malformed("certificate request"));
    assert_eq!(agent(format!("8e0801{}", "61".repeat(0x801))), malformed("certificate request"));
    assert_eq!(server("8f00010900016a".to_owned()), malformed("certificate chain"));
    assert_eq!(server(format!("901001{}", "61".repeat(0x1001))), malformed("anchor set"));
    assert_eq!(server(format!("8f00001801{}", "61".repeat(0x1801))), malformed("server CA"));
    let large = format!("86000000000000000900000000000000001c01{}", "61".repeat(0x1c01));
    assert_eq!(server(large), malformed("document"));
}

#[test]
fn reasons_and_codes_have_one_number_and_one_name_each() {
    for refusal in Refusal::ALL {
        assert_eq!(Refusal::from_code(refusal.code()), *refusal);
        assert_eq!(Refusal::ALL.iter().filter(|other| other.name() == refusal.name()).count(), 1);
    }
    for code in GoodbyeCode::ALL {
        assert_eq!(GoodbyeCode::from_code(code.code()), *code);
        assert_eq!(GoodbyeCode::ALL.iter().filter(|other| other.name() == code.name()).count(), 1);
    }
}

#[test]
fn the_highest_common_version_is_taken() {
    let (AgentFrame::Hello(mut hello), _) = golden_agent_frames().remove(0) else { panic!("not a hello") };
    for (min, max, common) in [(1, 1, Some(1)), (1, 9, Some(1)), (0, 1, Some(1)), (2, 9, None), (0, 0, None)]
    {
        (hello.version_min, hello.version_max) = (min, max);
        assert_eq!(hello.common_version(), common, "{min} to {max}");
    }
}

/// `docs/link.md` is the specification; the numbers it quotes are those of the code.
#[test]
fn the_specification_quotes_these_reasons_and_codes() {
    let specification = include_str!("../../../../docs/link.md");
    for refusal in Refusal::ALL {
        let row = format!("| {} | `{}` |", refusal.code(), refusal.name());
        assert!(specification.contains(&row), "{row}");
    }
    for code in GoodbyeCode::ALL {
        let row = format!("| {} | `{}` |", code.code(), code.name());
        assert!(specification.contains(&row), "{row}");
    }
    for refusal in StreamRefusal::ALL {
        let row = format!("| {} | `{}` |", refusal.code(), refusal.name());
        assert!(specification.contains(&row), "{row}");
    }
    for (_, golden) in golden_agent_frames() {
        assert!(specification.contains(&format!("| `0x{}` |", &golden[..2])), "{golden}");
    }
    for (_, golden) in golden_server_frames() {
        assert!(specification.contains(&format!("| `0x{}` |", &golden[..2])), "{golden}");
    }
}

fn uuid() -> impl Strategy<Value = String> {
    "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
}

fn os_user() -> impl Strategy<Value = OsUser> {
    "[a-z_][a-z0-9@._-]{0,30}".prop_map(|text| text.parse().unwrap())
}

fn fingerprint() -> impl Strategy<Value = Fingerprint> {
    any::<[u8; 32]>().prop_map(Fingerprint::from_bytes)
}

fn goodbye() -> impl Strategy<Value = Goodbye> {
    (any::<u8>(), "[ -~]{0,200}").prop_map(|(code, text)| Goodbye::new(GoodbyeCode::from_code(code), &text))
}

fn agent_frame() -> impl Strategy<Value = AgentFrame> {
    let hello = (any::<[u8; 2]>(), any::<u32>(), any::<u64>(), uuid(), "[ -~]{0,64}").prop_map(
        |(versions, capabilities, sent_at, boot_id, agent_version)| Hello {
            version_min: versions[0].min(versions[1]),
            version_max: versions[0].max(versions[1]),
            capabilities: Capabilities(capabilities),
            sent_at: BootInstant(sent_at),
            boot_id: boot_id.parse().unwrap(),
            agent_version: agent_version.parse().unwrap(),
        },
    );
    let outcome = prop_oneof![
        any::<bool>().prop_map(|os_user_exists| AckOutcome::Installed { os_user_exists }),
        any::<u8>().prop_map(|code| AckOutcome::Refused(Refusal::from_code(code))),
    ];
    let offered = (any::<u64>(), any::<u32>(), fingerprint(), os_user(), vec(uuid(), 0..=16)).prop_map(
        |(offered_at, lost, fingerprint, os_user, request_ids)| Offered {
            offered_at: BootInstant(offered_at),
            lost,
            fingerprint,
            os_user,
            request_ids: request_ids.iter().map(|text| text.parse().unwrap()).collect(),
        },
    );
    let event = prop_oneof![Just(UseEvent::Used), Just(UseEvent::Opened), Just(UseEvent::Closed)];
    let session = (any::<u32>(), any::<u64>()).prop_map(|(process, started)| SessionId { process, started });
    let reported = || (any::<u64>(), any::<u32>(), fingerprint(), os_user());
    let key_use = (event, session, reported(), "[!-~]{1,253}", vec(uuid(), 0..=16)).prop_map(
        |(event, session, (at, lost, fingerprint, os_user), from, request_ids)| KeyUse {
            event,
            at: BootInstant(at),
            lost,
            session,
            fingerprint,
            os_user,
            from: from.parse().unwrap(),
            request_ids: request_ids.iter().map(|text| text.parse().unwrap()).collect(),
        },
    );
    let unused = || {
        (reported(), uuid()).prop_map(|((at, lost, fingerprint, os_user), request_id)| ExpiredUnused {
            at: BootInstant(at),
            lost,
            fingerprint,
            os_user,
            request_id: request_id.parse().unwrap(),
        })
    };
    let facts = (vec("[ -~]{0,128}", 6), vec(any::<IpAddr>(), 0..=limits::HOST_ADDRESSES)).prop_map(
        |(texts, addresses)| {
            let [hostname, os_id, os_version, os_name, kernel, architecture] =
                std::array::from_fn(|position| texts[position].parse().unwrap());
            let addresses =
                addresses.into_iter().filter_map(|address| HostAddress::new(address).ok()).collect();
            HostFacts { hostname, os_id, os_version, os_name, kernel, architecture, addresses }
        },
    );
    prop_oneof![
        hello.prop_map(AgentFrame::Hello),
        facts.prop_map(|facts| AgentFrame::HostFacts(Box::new(facts))),
        any::<u64>().prop_map(|a0| AgentFrame::Ping(Ping { sent_at: BootInstant(a0) })),
        (any::<u64>(), outcome).prop_map(|(id, outcome)| AgentFrame::Ack(Ack { id: GrantId(id), outcome })),
        (any::<u64>(), any::<bool>())
            .prop_map(|(id, removed)| AgentFrame::Withdrawn(Withdrawn { id: WithdrawId(id), removed })),
        offered.prop_map(AgentFrame::Offered),
        vec("[ -~]{0,40}", 0..=8).prop_map(|lines| {
            let lines = lines.iter().map(|line| line.parse().unwrap()).collect();
            AgentFrame::HostKeys(ReportedHostKeys { lines })
        }),
        any::<(u32, [u8; 32])>().prop_map(|(set, sha256)| AgentFrame::Anchors(HeldAnchors { set, sha256 })),
        "[ -~\n]{0,2048}".prop_map(|text| AgentFrame::Renew(Renew { request: text.parse().unwrap() })),
        key_use.prop_map(AgentFrame::KeyUse),
        unused().prop_map(AgentFrame::ExpiredUnused),
        unused().prop_map(|unused| {
            let instance = "i-0abcdef1".parse().unwrap();
            AgentFrame::GuestReport(GuestReport::of(instance, AgentFrame::ExpiredUnused(unused)).unwrap())
        }),
        goodbye().prop_map(AgentFrame::Goodbye),
    ]
}

fn server_frame() -> impl Strategy<Value = ServerFrame> {
    let welcome = (any::<u8>(), any::<u32>(), any::<[u64; 2]>(), uuid(), "[ -~]{0,64}").prop_map(
        |(version, capabilities, [sent_at, server_time], server_clock, server_version)| Welcome {
            version,
            capabilities: Capabilities(capabilities),
            sent_at: BootInstant(sent_at),
            server_time: ServerInstant(server_time),
            server_clock: server_clock.parse().unwrap(),
            server_version: server_version.parse().unwrap(),
        },
    );
    let twin = (any::<u32>(), any::<[u8; 32]>()).prop_map(|(generation, bytes)| Twin {
        generation,
        signature: Box::new(std::array::from_fn(|position| bytes[position % 32])),
    });
    let grant = (any::<[u64; 2]>(), "(?s).{0,500}", vec(twin, 0..=limits::STOCK_SIGNERS)).prop_map(
        |([id, deadline], document, twins)| Grant {
            id: GrantId(id),
            deadline: ServerInstant(deadline),
            document: document.parse().unwrap(),
            twins,
        },
    );
    let staple = (any::<[u8; 20]>(), vec(any::<u8>(), 0..=limits::STAPLE)).prop_map(|(name, bytes)| Staple {
        name: StapleName(name),
        response: StapleBytes::new(&bytes).unwrap(),
    });
    let stock_signer = (any::<bool>(), "[ -~\n]{0,4096}", vec(staple, 0..=limits::STAPLES))
        .prop_map(|(is_revoked, chain, staples)| (is_revoked, chain.parse().unwrap(), staples));
    let stock_signers = vec(stock_signer, 0..=limits::STOCK_SIGNERS).prop_map(|signers| {
        let numbered = signers.into_iter().zip(7..);
        let signer = |((is_revoked, chain, staples), generation)| StockSigner {
            generation,
            is_revoked,
            chain,
            staples,
        };
        StockSigners { each: numbered.map(signer).collect() }
    });
    let facts = btree_map("[a-zA-Z0-9+=.,_:@-]{3,128}", "\\PC{0,256}", 0..=limits::TAGS).prop_map(|tags| {
        InstanceFacts {
            instance: "i-0abcdef1".parse().unwrap(),
            account: "111122223333".parse().unwrap(),
            region: "us-east-1".parse().unwrap(),
            availability_zone: "us-east-1a".parse().unwrap(),
            domain: "amazonaws.com".parse().unwrap(),
            tags: InstanceFacts::fitting_tags(&tags),
        }
    });
    let withdraw = (any::<u64>(), uuid(), fingerprint(), os_user()).prop_map(
        |(id, request_id, fingerprint, os_user)| Withdraw {
            id: WithdrawId(id),
            request_id: request_id.parse().unwrap(),
            fingerprint,
            os_user,
        },
    );
    let pong = any::<[u64; 2]>()
        .prop_map(|[a0, s1]| Pong { sent_at: BootInstant(a0), server_time: ServerInstant(s1) });
    let signer = "[ -~]{0,256}".prop_map(|text| Signer { statement: text.parse().unwrap() });
    prop_oneof![
        welcome.prop_map(ServerFrame::Welcome),
        pong.prop_map(ServerFrame::Pong),
        signer.prop_map(ServerFrame::Signer),
        grant.prop_map(ServerFrame::Grant),
        stock_signers.prop_map(ServerFrame::StockSigners),
        facts.prop_map(ServerFrame::Instance),
        (any::<u64>(), any::<[u8; 32]>(), any::<bool>(), any::<u8>(), any::<u32>()).prop_map(
            |(id, ticket, watches, port, replay)| {
                ServerFrame::OpenStream(OpenStream {
                    id: StreamId(id),
                    ticket: StreamTicket::from_bytes(ticket),
                    line: OwnedLine { port, ..owned_line() },
                    mode: if watches { Mode::Watch } else { Mode::Write },
                    replay,
                })
            }
        ),
        withdraw.prop_map(ServerFrame::Withdraw),
        Just(ServerFrame::Renew),
        "[ -~\n]{0,4096}".prop_map(|text| ServerFrame::Anchors(text.parse().unwrap())),
        ["[ -~\n]{0,6144}", "[ -~\n]{0,6144}"].prop_map(|[chain, server_ca]| {
            let (chain, server_ca) = (chain.parse().unwrap(), server_ca.parse().unwrap());
            ServerFrame::Renewed(Renewed { chain, server_ca })
        }),
        goodbye().prop_map(ServerFrame::Goodbye),
    ]
}

proptest! {
    #[test]
    fn decode_inverts_encode_for_agents(frame in agent_frame()) {
        prop_assert_eq!(AgentFrame::decode(&frame.encode()), Ok(Some(frame)));
    }

    #[test]
    fn decode_inverts_encode_for_servers(frame in server_frame()) {
        prop_assert_eq!(ServerFrame::decode(&frame.encode()), Ok(Some(frame)));
    }

    /// One spelling: whatever is taken at all is what encoding would have written. Catches the planted `parser-panics`.
    #[test]
    fn any_bytes_are_refused_or_a_frame(kind in prop_oneof![0x80..=0x91u8, any::<u8>()], body: Vec<u8>) {
        let bytes = [&[kind][..], &body].concat();
        if let Ok(Some(frame)) = AgentFrame::decode(&bytes) {
            prop_assert_eq!(frame.encode(), bytes.clone());
        }
        if let Ok(Some(frame)) = ServerFrame::decode(&bytes) {
            prop_assert_eq!(frame.encode(), bytes);
        }
    }

    #[test]
    fn one_changed_byte_is_refused_or_another_frame(frame in server_frame(), at: prop::sample::Index, to: u8) {
        let mut bytes = frame.encode();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(Some(other)) = ServerFrame::decode(&bytes) {
            prop_assert_eq!(other.encode(), bytes);
        }
    }

    #[test]
    fn lossy_lines_are_lines(text: String) {
        let line = GoodbyeText::lossy(&text);
        prop_assert_eq!(line.as_str().parse::<GoodbyeText>(), Ok(line));
    }
}
