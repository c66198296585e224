//! The values that conditions compare: numbers, dates, truth, networks. Each reads what a policy says and what a
//! request has by the same rules.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use std::net::IpAddr;

/// A whole or decimal number, exact: in units of 10⁻⁹.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Decimal(i128);

impl Decimal {
    /// Reads up to 18 digits, with up to 9 behind a point.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let missing_places = 9_u32.checked_sub(fraction.len().try_into().ok()?)?;
        if whole.len() > 18 {
            return None;
        }
        let whole = i128::from(unsigned(whole)?) * 10_i128.pow(9);
        let fraction = i128::from(unsigned(fraction)?) * 10_i128.pow(missing_places);
        Some(Self(sign * (whole + fraction)))
    }
}

/// Digits and nothing else; Rust's own parsers also take a sign.
fn unsigned(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Reads a date: one of the forms of the W3C's profile of ISO 8601, or seconds since 1970. Four digits are a year.
///
/// Other digits have to be seconds of a year from 1973 to 5138, or 0: who writes 20310101 or 202710 means another date
/// than one in 1970.
pub(super) fn instant(text: &str) -> Option<Timestamp> {
    let number = |from: usize, length: usize| {
        let digits =
            text.get(from..from + length).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
        digits.parse::<i16>().ok()
    };
    let midnight = |year: i16, month: i16, day: i16| {
        let date = Date::new(year, month.try_into().ok()?, day.try_into().ok()?).ok()?;
        Offset::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok()
    };
    let dash = |at: usize| text.as_bytes().get(at) == Some(&b'-');
    match text.len() {
        4 => midnight(number(0, 4)?, 1, 1),
        7 if dash(4) => midnight(number(0, 4)?, number(5, 2)?, 1),
        10 if dash(4) && dash(7) => midnight(number(0, 4)?, number(5, 2)?, number(8, 2)?),
        // jiff reads more forms than the profile has.
        17.. if text.as_bytes().get(10) == Some(&b'T')
            && text.bytes().all(|b| b.is_ascii_digit() || b"-:T.+Z".contains(&b)) =>
        {
            text.parse().ok()
        }
        _ => {
            let seconds = unsigned(text)?.try_into().ok()?;
            let plausible = seconds == 0 || (100_000_000..100_000_000_000).contains(&seconds);
            plausible.then(|| Timestamp::from_second(seconds).ok())?
        }
    }
}

/// Reads `true` or `false`, in any case.
pub(super) fn boolean(text: &str) -> Option<bool> {
    [true, false].into_iter().find(|value| text.eq_ignore_ascii_case(if *value { "true" } else { "false" }))
}

/// Addresses with a common prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    base: IpAddr,
    /// In bits.
    prefix: u32,
}

impl Network {
    /// Reads an address, or a network in CIDR notation. An IPv4 network in the form of IPv6 is an IPv4 network, as
    /// source addresses are.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let (base, width) = (address.to_canonical(), if address.is_ipv4() { 32_u32 } else { 128 });
        let prefix: u32 = prefix.map_or(Some(width), |prefix| unsigned(prefix)?.try_into().ok())?;
        if prefix > width {
            return None;
        }
        // `::ffff:0:0/96` is all of IPv4. What is larger is no IPv4 network any more.
        let shortened = if base.is_ipv4() { width - 32 } else { 0 };
        match prefix.checked_sub(shortened) {
            Some(prefix) => Some(Self { base, prefix }),
            None => Some(Self { base: address, prefix }),
        }
    }

    /// Whether an address is in it. IPv4 and IPv6 never are in each other; an IPv4 address in the form of IPv6 is one of
    /// IPv4.
    pub(crate) fn contains(self, address: IpAddr) -> bool {
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                (base.to_bits() ^ address.to_bits()).checked_shr(32 - self.prefix).unwrap_or(0) == 0
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                (base.to_bits() ^ address.to_bits()).checked_shr(128 - self.prefix).unwrap_or(0) == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let in_order = ["-10", "-0.5", "0", "0.1", "0.15", "1", "2", "10", "999999999999999999.999999999"];
        let numbers = in_order.map(|text| Decimal::parse(text).unwrap());
        assert!(numbers.is_sorted() && numbers.windows(2).all(|pair| pair[0] != pair[1]));
        for (one, same) in [("1", "1.0"), ("007", "7"), ("-0", "0"), ("0.10", "0.1")] {
            assert_eq!(Decimal::parse(one), Decimal::parse(same), "{one}");
        }
        for text in
            ["", "-", "+1", "1.", ".1", "1e3", "--1", "0x1", " 1", "1 ", "1,0", "٣", "1.2.3", "1.0000000001"]
        {
            assert_eq!(Decimal::parse(text), None, "{text:?}");
        }
        assert_eq!(Decimal::parse("1000000000000000000"), None);
    }

    #[test]
    fn dates() {
        for (text, seconds) in [
            ("2031", 1_924_992_000),
            ("2031-02", 1_927_670_400),
            ("2031-02-10", 1_928_448_000),
            ("2031-02-10T04:05Z", 1_928_462_700),
            ("2031-02-10T04:05:06Z", 1_928_462_706),
            ("2031-02-10T04:05:06.000Z", 1_928_462_706),
            ("2031-02-10T06:05:06+02:00", 1_928_462_706),
            ("2031-02-10T02:05-02:00", 1_928_462_700),
            ("1928462706", 1_928_462_706),
            ("100000000", 100_000_000),
            ("0", 0),
            ("1970", 0),
        ] {
            assert_eq!(instant(text), Timestamp::from_second(seconds).ok(), "{text}");
        }
        assert!(instant("2031-02-10T04:05:06.5Z") > instant("2031-02-10T04:05:06Z"));
        for text in [
            "",
            "x",
            "-1",
            "+1",
            "2031-2",
            "2031-13",
            "2031-02-30",
            "2031/02/10",
            "2031-02-10T04:05:06",
            "2031-02-10 04:05:06Z",
            "2031-02-10t04:05:06z",
            "2031-02-10T04:05:06Z[UTC]",
            "2031-02-10T25:00Z",
            "20310210T040506Z",
            "+031",
            "99999999999999999999",
            "1",
            "202710",
            "20310101",
            "99999999",
            "203101010405",
            "100000000000",
            "éééééééééé",
            "ééé",
            "2031-02-10Té",
        ] {
            assert_eq!(instant(text), None, "{text:?}");
        }
    }

    #[test]
    fn networks() {
        for (network, address, expected) in [
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("192.0.2.7/24", "192.0.2.1", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("192.0.2.7/32", "192.0.2.8", false),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "::1", true),
            ("::/0", "192.0.2.1", false),
            ("2001:DB8:1234:5678::/64", "2001:db8:1234:5678::9", true),
            ("2001:DB8:1234:5678::/64", "2001:db8:1234:5679::9", false),
            ("2001:db8::1", "2001:db8::1", true),
            ("2001:db8::1", "2001:db8::2", false),
            ("::ffff:192.0.2.0/120", "192.0.2.9", true),
            ("::ffff:192.0.2.0/120", "192.0.3.9", false),
            ("::ffff:192.0.2.9", "192.0.2.9", true),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("::/0", "::ffff:10.0.0.1", false),
            ("::ffff:0:0/96", "10.0.0.1", true),
            ("::ffff:0:0/95", "10.0.0.1", false),
        ] {
            let parsed = Network::parse(network).unwrap();
            assert_eq!(parsed.contains(address.parse().unwrap()), expected, "{network} {address}");
        }
        for text in [
            "",
            "/",
            "x",
            "192.0.2.0/33",
            "192.0.2.0/-1",
            "192.0.2.0/+8",
            "192.0.2.0/",
            "192.0.2/24",
            "192.0.2.0/24/1",
            "::/129",
            "010.0.0.1",
            "fe80::1%eth0",
            "10.0.0.*",
            "192.0.2.0/99999999999999999999",
        ] {
            assert_eq!(Network::parse(text), None, "{text:?}");
        }
    }
}
