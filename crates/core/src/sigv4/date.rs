//! The time of a signature, as its date says it.

use instance_connect_document::UnixSeconds;

/// A time as signatures write it: `YYYYMMDDTHHMMSSZ`, ISO 8601's basic format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AmzDate {
    text: String,
    time: UnixSeconds,
}

impl AmzDate {
    /// This time; `None` past the year 9999.
    pub(crate) fn of(time: UnixSeconds) -> Option<Self> {
        let timestamp = jiff::Timestamp::from_second(time.0).ok()?;
        let text = timestamp.strftime("%Y%m%dT%H%M%SZ").to_string();
        (text.len() == 16).then_some(Self { text, time })
    }

    /// Reads the one spelling that a time has.
    pub(crate) fn read(text: &str) -> Option<Self> {
        Self::of(civil_time("%Y%m%dT%H%M%SZ", text)?)
    }

    /// Reads a `Date` header: as above, or as HTTP dates and those of mail are written (wire.md 1.10).
    pub(crate) fn read_header(text: &str) -> Option<Self> {
        Self::read(text).or_else(|| {
            let time = [" GMT", " -0000", " +0000"].iter().find_map(|zone| text.strip_suffix(zone))?;
            Self::of(civil_time("%a, %d %b %Y %H:%M:%S", time)?)
        })
    }

    /// `YYYYMMDDTHHMMSSZ`.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// `YYYYMMDD`.
    pub(crate) fn day(&self) -> &str {
        self.text.get(..8).unwrap_or_default()
    }

    /// The time itself.
    pub(crate) const fn time(&self) -> UnixSeconds {
        self.time
    }
}

/// A time as signatures write it; empty past the year 9999.
pub fn in_signatures(time: UnixSeconds) -> String {
    AmzDate::of(time).map(|date| date.text).unwrap_or_default()
}

/// A time as the `Date` header of HTTP writes it (RFC 9110, 5.6.7); `None` where no calendar goes.
pub fn in_http(time: UnixSeconds) -> Option<String> {
    let timestamp = jiff::Timestamp::from_second(time.0).ok()?;
    Some(timestamp.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
}

/// What `text` says if it is exactly what `format` makes of that: the parser alone would take less.
fn civil_time(format: &str, text: &str) -> Option<UnixSeconds> {
    let time = jiff::civil::DateTime::strptime(format, text).ok()?;
    let timestamp = jiff::tz::Offset::UTC.to_timestamp(time).ok()?;
    (time.strftime(format).to_string() == text).then_some(UnixSeconds(timestamp.as_second()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (text, time) in [
            ("20310211T020506Z", Some(1_928_541_906)),
            ("19700101T000000Z", Some(0)),
            ("Tue, 11 Feb 2031 02:05:06 GMT", Some(1_928_541_906)),
            ("Tue, 11 Feb 2031 02:05:06 -0000", Some(1_928_541_906)),
            ("Sat, 01 Mar 2031 00:00:00 +0000", Some(1_930_089_600)),
            ("", None),
            ("20310211", None),
            ("20310211T020506", None),
            ("20310211T020506z", None),
            ("20310211T020506Z ", None),
            ("20310211T020506+0000", None),
            ("2031-02-11T02:05:06Z", None),
            ("20311311T020506Z", None),
            ("20310229T020506Z", None),
            ("20310211T240000Z", None),
            // A leap second would be another second's text.
            ("20310211T020560Z", None),
            ("2031 211T020506Z", None),
            ("+2031211T020506Z", None),
            ("-0310211T020506Z", None),
            ("０2310211T0205Z", None),
            ("Wed, 11 Feb 2031 02:05:06 GMT", None),
            ("Tue, 11 Feb 2031 02:05:06 +0100", None),
            ("Tue, 11 Feb 2031 02:05:06", None),
            ("Sat, 1 Mar 2031 00:00:00 GMT", None),
            ("tue, 11 feb 2031 02:05:06 gmt", None),
            ("11 Feb 2031 02:05:06 GMT", None),
        ] {
            let read = AmzDate::read_header(text);
            assert_eq!(read.as_ref().map(|date| date.time().0), time, "{text}");
            let of_a_header_only = text.contains(' ');
            assert_eq!(AmzDate::read(text), read.filter(|_| !of_a_header_only), "{text}");
        }
        let date = AmzDate::read_header("Tue, 11 Feb 2031 02:05:06 GMT").unwrap();
        assert_eq!((date.as_str(), date.day()), ("20310211T020506Z", "20310211"));
        assert_eq!(in_http(date.time()).unwrap(), "Tue, 11 Feb 2031 02:05:06 GMT");
    }
}
