//! The trace that a request says it is a part of: W3C's `traceparent`, and AWS's `X-Amzn-Trace-Id`.
//!
//! Nothing is decided by it, and nothing in it is proved: whoever sends a request chooses what it says here.

use instance_connect_planted::parser_entered;

/// Longest `X-Amzn-Trace-Id` that is read: Lambda's, with what it adds, is about 140 bytes.
const LONGEST: usize = 256;

/// A trace, and the caller's span in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// Of the trace; not 0.
    pub trace_id: u128,
    /// Of the caller's span; not 0.
    pub span_id: u64,
    /// Whether the caller keeps this trace.
    pub sampled: bool,
}

impl TraceContext {
    /// Reads `traceparent` (W3C Trace Context, 3.2), such as `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`. Of its
    /// versions there is only 00.
    pub fn from_traceparent(value: &[u8]) -> Option<Self> {
        parser_entered(value);
        let mut fields = value.split(|byte| *byte == b'-');
        let (version, trace_id) = (fields.next()?, fields.next()?);
        let (span_id, flags) = (fields.next()?, fields.next()?);
        if version != b"00" || fields.next().is_some() {
            return None;
        }
        Self::new(hex::<32>(trace_id)?, hex::<16>(span_id)?, hex::<2>(flags)? & 1 == 1)
    }

    /// Reads `X-Amzn-Trace-Id`, such as `Root=1-67891233-abcdef012345678912345678;Parent=463ac35c9f6413ad;Sampled=1`, with its
    /// fields in any order and others among them. Without `Parent` there is no span to go on from.
    pub fn from_amzn_trace_id(value: &[u8]) -> Option<Self> {
        parser_entered(value);
        if value.len() > LONGEST {
            return None;
        }
        let only = |name: &[u8]| {
            let mut values = value.split(|byte| *byte == b';').filter_map(|field| {
                let field = field.trim_ascii().strip_prefix(name)?;
                field.strip_prefix(b"=")
            });
            values.next().filter(|_| values.next().is_none())
        };
        let root = only(b"Root")?.strip_prefix(b"1-")?;
        let (seconds, random) = (root.get(..8)?, root.get(8..)?.strip_prefix(b"-")?);
        let trace_id = hex::<8>(seconds)? << 96 | hex::<24>(random)?;
        Self::new(trace_id, hex::<16>(only(b"Parent")?)?, only(b"Sampled") == Some(b"1"))
    }

    fn new(trace_id: u128, span_id: u128, sampled: bool) -> Option<Self> {
        let span_id = u64::try_from(span_id).ok()?;
        (trace_id != 0 && span_id != 0).then_some(Self { trace_id, span_id, sampled })
    }
}

/// The number that exactly this many lower-case hexadecimal digits say; they are 32 at most.
fn hex<const DIGITS: usize>(text: &[u8]) -> Option<u128> {
    let digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != DIGITS || !text.iter().all(digit) {
        return None;
    }
    u128::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const W3C: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const AMAZON: &str = "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1";

    fn expected(sampled: bool) -> Option<TraceContext> {
        Some(TraceContext {
            trace_id: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736,
            span_id: 0x00f0_67aa_0ba9_02b7,
            sampled,
        })
    }

    #[test]
    fn what_a_caller_says_of_its_trace() {
        for (text, sampled) in
            [(W3C.to_owned(), true), (W3C.replace("-01", "-00"), false), (W3C.replace("-01", "-03"), true)]
        {
            assert_eq!(TraceContext::from_traceparent(text.as_bytes()), expected(sampled), "{text}");
        }
        for (text, sampled) in [
            (AMAZON.to_owned(), true),
            (AMAZON.replace("Sampled=1", "Sampled=0"), false),
            (AMAZON.replace(";Sampled=1", ""), false),
            (AMAZON.replace(";Parent", ";Lineage=a87bd80c:1|68fd508a:5; Self=x;Parent"), true),
            ("Sampled=1;Parent=00f067aa0ba902b7;Root=1-4bf92f35-77b34da6a3ce929d0e0e4736".to_owned(), true),
        ] {
            assert_eq!(TraceContext::from_amzn_trace_id(text.as_bytes()), expected(sampled), "{text}");
        }
    }

    #[test]
    fn what_is_none() {
        for text in [
            String::new(),
            W3C.to_uppercase(),
            W3C.replace("00-", "01-"),
            W3C.replace("00-", "ff-"),
            W3C.replace("00-", "0-"),
            format!("{W3C}-00"),
            format!("{W3C}-"),
            format!(" {W3C}"),
            W3C.replace("-01", "-1"),
            W3C.replace("-01", "-+1"),
            W3C.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            W3C.replace("00f067aa0ba902b7", &"0".repeat(16)),
            W3C.replace("00f067aa0ba902b7", "+0f067aa0ba902b7"),
            W3C.replace("00f067aa0ba902b7", "é0f067aa0ba902b"),
        ] {
            assert_eq!(TraceContext::from_traceparent(text.as_bytes()), None, "{text}");
        }
        for text in [
            String::new(),
            AMAZON.replace("Parent", "parent"),
            AMAZON.replace(";Parent=00f067aa0ba902b7", ""),
            AMAZON.replace("Root=1-", "Root=2-"),
            AMAZON.replace("35-77", "3577"),
            AMAZON.replace("35-77", "35-7"),
            AMAZON.to_uppercase(),
            format!("{AMAZON};Parent=00f067aa0ba902b8"),
            format!("{AMAZON};Other={}", "x".repeat(LONGEST)),
        ] {
            assert_eq!(TraceContext::from_amzn_trace_id(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn trace_context_parser_never_panics(bytes: Vec<u8>, near in "(Root=|Parent=|1-|[0-9a-f]{8}|-|;|=|00){0,12}") {
            for value in [&bytes[..], near.as_bytes()] {
                let _ = (TraceContext::from_traceparent(value), TraceContext::from_amzn_trace_id(value));
            }
        }

        #[test]
        fn every_context_is_read_as_it_was_written(trace_id in 1_u128.., span_id in 1_u64.., sampled: bool) {
            let context = Some(TraceContext { trace_id, span_id, sampled });
            let flag = u8::from(sampled);
            let text = format!("00-{trace_id:032x}-{span_id:016x}-{flag:02x}");
            prop_assert_eq!(TraceContext::from_traceparent(text.as_bytes()), context);
            let text = format!("{trace_id:032x}");
            let (seconds, random) = text.split_at(8);
            let text = format!("Root=1-{seconds}-{random};Parent={span_id:016x};Sampled={flag}");
            prop_assert_eq!(TraceContext::from_amzn_trace_id(text.as_bytes()), context);
        }
    }
}
