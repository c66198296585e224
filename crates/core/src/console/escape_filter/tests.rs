use super::*;
use proptest::prelude::*;

const CHARSETS: [Charset; 2] = [Charset::Utf8, Charset::Unknown];

fn filtered(charset: Charset, bytes: &[u8]) -> Vec<u8> {
    let mut shown = Vec::new();
    EscapeFilter::new(charset).filter(bytes, &mut shown);
    shown
}

#[track_caller]
fn becomes(input: impl AsRef<[u8]>, expected: impl AsRef<[u8]>) {
    for charset in CHARSETS {
        let shown = filtered(charset, input.as_ref());
        let (shown, expected) = (shown.escape_ascii(), expected.as_ref().escape_ascii());
        assert_eq!(shown.to_string(), expected.to_string(), "{charset:?}");
    }
}

#[track_caller]
fn passes(input: impl AsRef<[u8]>) {
    becomes(&input, &input);
}

/// A terminal as far as it does what a filter is there to prevent: it reads all that any terminal takes, of UTF-8 or of an
/// 8-bit character set, and notes what would be answered, or change something but the screen. It shares nothing with the filter.
struct Terminal {
    within: Within,
    noted: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum TerminalCharset {
    Utf8,
    EightBit,
}

#[derive(Debug, PartialEq)]
enum Within {
    Nothing,
    Escape(String),
    Csi(String),
    String(char),
}

impl Terminal {
    fn shown(charset: TerminalCharset, bytes: &[u8]) -> Self {
        let mut terminal = Self { within: Within::Nothing, noted: Vec::new() };
        let symbols: Vec<char> = match charset {
            TerminalCharset::Utf8 => String::from_utf8_lossy(bytes).chars().collect(),
            TerminalCharset::EightBit => bytes.iter().map(|byte| char::from(*byte)).collect(),
        };
        for symbol in symbols {
            match symbol {
                '\u{80}'..='\u{9f}' => {
                    terminal.within = Within::Escape(String::new());
                    terminal.take(char::from_u32(u32::from(symbol) - 0x40).unwrap());
                }
                _ => terminal.take(symbol),
            }
        }
        terminal
    }

    fn take(&mut self, symbol: char) {
        let within = std::mem::replace(&mut self.within, Within::Nothing);
        self.within = match (within, symbol) {
            (Within::String(_), '\u{7}') => Within::Nothing,
            (_, '\u{1b}') => Within::Escape(String::new()),
            (_, '\u{18}' | '\u{1a}') => Within::Nothing,
            (within, '\u{5}') => {
                self.noted.push("ENQ".to_owned());
                within
            }
            (string @ Within::String(_), _) | (string, '\0'..='\u{1f}') => string,
            (Within::Nothing, _) => Within::Nothing,
            (Within::Escape(inside), ' '..='/') => Within::Escape(inside + &symbol.to_string()),
            (Within::Escape(inside), _) => self.escape(&inside, symbol),
            (Within::Csi(inside), ' '..='?') => Within::Csi(inside + &symbol.to_string()),
            (Within::Csi(inside), _) => {
                self.csi(&inside, symbol);
                Within::Nothing
            }
        };
    }

    fn escape(&mut self, inside: &str, last: char) -> Within {
        match (inside, last) {
            ("", '[') => return Within::Csi(String::new()),
            ("", ']' | 'P' | 'X' | '^' | '_' | 'k') => {
                self.noted.push(format!("a string: {last}"));
                return Within::String(last);
            }
            // DECID, VT52's; UTF-8 off; how it answers; levels of conformance.
            ("", 'Z' | '<') | ("%" | " ", _) => self.noted.push(format!("ESC {inside}{last}")),
            _ => {}
        }
        Within::Nothing
    }

    fn csi(&mut self, inside: &str, last: char) {
        let is_answered = match last {
            // DA of all kinds, DSR, CPR, status of modes and of settings, XTVERSION, LEDs, parameters, checksums, window operations,
            // printing, keyboards.
            'c' | 'n' | 'p' | 'q' | 't' | 'v' | 'w' | 'x' | 'y' | 'z' | 'i' | '{' | '|' | '}' | '~' => {
                !((last == 'q' && inside.ends_with(' ')) || (last == 'p' && inside == "!"))
            }
            'u' | 's' => !inside.is_empty(),
            'm' | 'S' | 'J' | 'K' | 'r' => {
                inside.contains(['?', '>', '<', '=']) || (last == 'J' && inside.contains('3'))
            }
            'T' => inside.contains(';'),
            'h' | 'l' if inside.starts_with('?') => {
                let modes: Vec<&str> = inside[1..].split(';').collect();
                // The mouse, its focus, sizes, colours; VT52; 132 columns; keys.
                modes.iter().any(|mode| {
                    let mode = mode.parse().unwrap_or(2);
                    matches!(mode, 2 | 3 | 8 | 9 | 45 | 80 | 1000..=1046 | 2031 | 2048 | 9001)
                        || mode > 10_000
                })
            }
            'h' | 'l' => inside != "4" && inside.split(';').any(|mode| mode != "4"),
            _ => false,
        };
        if is_answered {
            self.noted.push(format!("CSI {inside}{last}"));
        }
    }
}

#[track_caller]
fn speaks_to_no_terminal(input: &[u8]) {
    for charset in CHARSETS {
        let shown = filtered(charset, input);
        let terminals = match charset {
            Charset::Utf8 => &[TerminalCharset::Utf8][..],
            Charset::Unknown => &[TerminalCharset::Utf8, TerminalCharset::EightBit],
        };
        for terminal in terminals {
            let after = Terminal::shown(*terminal, &shown);
            let said =
                format!("{charset:?} {terminal:?}: {} as {}", input.escape_ascii(), shown.escape_ascii());
            assert_eq!(after.noted, [""; 0], "{said}");
            assert_eq!(after.within, Within::Nothing, "{said}");
        }
    }
}

/// What terminals answer, or what changes more than the screen, from xterm's ctlseqs and the manuals of kitty, iTerm2, tmux, VTE
/// and Linux.
const QUERIES: &[&str] = &[
    // Answerback; device attributes, primary, secondary, tertiary; DECID.
    "\x05",
    "\x1b[c",
    "\x1b[0c",
    "\x1b[>c",
    "\x1b[>0c",
    "\x1b[=c",
    "\x1bZ",
    // Status, cursor, printer, keyboard, locator, its type, macros, checksum, integrity, sessions, colours.
    "\x1b[5n",
    "\x1b[6n",
    "\x1b[?6n",
    "\x1b[?15n",
    "\x1b[?25n",
    "\x1b[?26n",
    "\x1b[?53n",
    "\x1b[?55n",
    "\x1b[?56n",
    "\x1b[?62n",
    "\x1b[?63;1n",
    "\x1b[?75n",
    "\x1b[?85n",
    "\x1b[?996n",
    // XTVERSION, modes (DECRQM), parameters (DECREQTPARM), settings (DECRQSS), termcap (XTGETTCAP, also set).
    "\x1b[>q",
    "\x1b[>0q",
    "\x1b[4$p",
    "\x1b[?2026$p",
    "\x1b[x",
    "\x1b[1x",
    "\x1bP$qm\x1b\\",
    "\x1bP$q\"p\x1b\\",
    "\x1bP+q544e\x1b\\",
    "\x1bP+p544e\x1b\\",
    // Checksum of a rectangle; presentation state, also restored; user-preferred set; terminal state; keys.
    "\x1b[1;1;1;1;5;5*y",
    "\x1b[1$w",
    "\x1b[2$w",
    "\x1bP1$t1;1;1;@;@;@;0;0;@;BBBB\x1b\\",
    "\x1b[&u",
    "\x1b[1$u",
    "\x1b[?u",
    "\x1b[>1u",
    "\x1b[=1;1u",
    "\x1b[<u",
    "\x1b[?4m",
    "\x1b[>4;2m",
    // Windows: state, place, sizes, icon and title, title stack; moved, resized.
    "\x1b[11t",
    "\x1b[13t",
    "\x1b[14t",
    "\x1b[14;2t",
    "\x1b[15t",
    "\x1b[16t",
    "\x1b[18t",
    "\x1b[19t",
    "\x1b[20t",
    "\x1b[21t",
    "\x1b[22;0t",
    "\x1b[23;0t",
    "\x1b[3;0;0t",
    "\x1b[8;24;80t",
    "\x1b[>2t",
    // Titles, colours, the clipboard, directories, notices, links, fonts, files, marks.
    "\x1b]0;title\x07",
    "\x1b]2;title\x1b\\",
    "\x1bktitle\x1b\\",
    "\x1b]l\x1b\\",
    "\x1b]4;1;?\x07",
    "\x1b]5;0;?\x07",
    "\x1b]7;file:///\x07",
    "\x1b]8;;http://example.com\x1b\\",
    "\x1b]10;?\x07",
    "\x1b]11;?\x1b\\",
    "\x1b]12;?\x07",
    "\x1b]17;?\x07",
    "\x1b]19;?\x07",
    "\x1b]21;foreground=?\x1b\\",
    "\x1b]50;?\x07",
    "\x1b]52;c;?\x07",
    "\x1b]52;c;cm0gLXJmIC8K\x07",
    "\x1b]52;p;cm0gLXJmIC8K\x1b\\",
    "\x1b]60\x1b\\",
    "\x1b]104\x07",
    "\x1b]133;A\x07",
    "\x1b]697;x\x07",
    "\x1b]777;notify;a;b\x07",
    "\x1b]1337;ReportCellSize\x07",
    "\x1b]1337;ReportVariable=bmFtZQ==\x07",
    "\x1b]1337;File=name=YQ==;inline=0:YQ==\x07",
    "\x1b]1337;CopyToClipboard=\x07",
    "\x1b]5522;type=read\x1b\\",
    // Pictures and what can be asked of them; kitty's; macros; keys (DECUDK); what tmux and screen hand on.
    "\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\",
    "\x1bP@kitty-cmd{\"cmd\":\"ls\"}\x1b\\",
    "\x1b[?1;1;0S",
    "\x1b[?2;1;0S",
    "\x1bP0;1|17/0d\x1b\\",
    "\x1bP1;1;1!zhello\x1b\\",
    "\x1b[1*z",
    "\x1bPtmux;\x1b\x1b[c\x1b\\",
    "\x1bP\x1b[c\x1b\\",
    "\x1bPq#0!10~\x1b\\",
    "\x1bX\x1b[c\x1b\\",
    "\x1b^text\x1b\\",
    // The mouse, the focus, sizes, colours and keys that are reported; the locator.
    "\x1b[?9h",
    "\x1b[?1000h",
    "\x1b[?1001h",
    "\x1b[?1002h",
    "\x1b[?1003h",
    "\x1b[?1004h",
    "\x1b[?1006h",
    "\x1b[?25;1003h",
    "\x1b[?2031h",
    "\x1b[?2048h",
    "\x1b[?9001h",
    "\x1b[1;2'z",
    "\x1b['|",
    "\x1b[1;1;1;10;10T",
    // The keyboard: locked, line ends, VT52, 132 columns; printing; LEDs; 8-bit answers; UTF-8 off; scroll-back erased.
    "\x1b[2h",
    "\x1b[12h",
    "\x1b[20h",
    "\x1b[4;20h",
    "\x1b[?2l",
    "\x1b[?3h",
    "\x1b[4i",
    "\x1b[5i",
    "\x1b[?5i",
    "\x1b[0q",
    "\x1b[62;1\"p",
    "\x1b G",
    "\x1b F",
    "\x1b%@",
    "\x1b%G",
    "\x1b[3J",
    "\x1b[2;3J",
    // Linux's console: fonts, bell, blanking, consoles; screen's.
    "\x1b[11;100]",
    "\x1b[12;1]",
    "\x1b[1;31]",
    "\x1b]R",
    "\x1b]P0123456",
    "\x1b!title\x1b\\",
];

#[test]
fn nothing_that_a_terminal_answers_is_shown() {
    for query in QUERIES {
        // As it is; with 8-bit controls, as UTF-8 and as they are; with controls and deletes inside; broken off by another.
        let eight_bit: Vec<u8> =
            eight_bit(query).iter().map(|symbol| u8::try_from(*symbol).unwrap()).collect();
        let utf8: String = self::eight_bit(query).iter().map(|code| char::from_u32(*code).unwrap()).collect();
        let interrupted: Vec<u8> = query.bytes().flat_map(|byte| [byte, 0x00, 0x0a, 0x7f]).collect();
        let broken_off = format!("\x1b[1;{query}");
        let in_string = format!("\x1b]0;{query}{query}");
        for form in [
            query.as_bytes(),
            &eight_bit,
            utf8.as_bytes(),
            &interrupted,
            broken_off.as_bytes(),
            in_string.as_bytes(),
        ] {
            speaks_to_no_terminal(form);
            speaks_to_no_terminal(&[form, b"echo\r\n"].concat());
        }
    }
}

/// ESC and a character as the one control that says the same.
fn eight_bit(text: &str) -> Vec<u32> {
    let mut codes: Vec<u32> = Vec::new();
    for symbol in text.chars() {
        match (codes.last(), symbol) {
            (Some(0x1b), '@'..='_') => *codes.last_mut().unwrap() = u32::from(symbol) + 0x40,
            _ => codes.push(symbol.into()),
        }
    }
    codes
}

#[test]
fn a_query_leaves_what_is_around_it() {
    for query in QUERIES {
        // What those have that end with a line, or by themselves, is text.
        if !query.contains("\x1b!") {
            becomes(format!("before{query}\r\nafter"), b"before\r\nafter");
        }
    }
}

#[test]
fn text_and_what_moves_in_it_passes() {
    for input in [
        "Debian GNU/Linux 12 guest ttyS0\r\n\r\nguest login: ",
        "\ta\u{8}b\u{b}\u{c}\u{7}\u{e}lqk\u{f}",
        "\x1b[H\x1b[2J\x1b[J\x1b[K\x1b[1K",
        "\x1b[0;1;31mred\x1b[m \x1b[38;5;196m \x1b[38;2;1;2;3;48;2;4;5;6m \x1b[4:3m \x1b[38:2::1:2:3m",
        "\x1b[10;20H\x1b[5A\x1b[B\x1b[C\x1b[D\x1b[E\x1b[F\x1b[7G\x1b[3d\x1b[;f\x1b[2;r\x1b[1;24r",
        "\x1b[3@\x1b[2L\x1b[M\x1b[P\x1b[4X\x1b[2b\x1b[S\x1b[1T\x1b[I\x1b[Z\x1b[3g",
        "\x1b7\x1b8\x1b[s\x1b[u\x1bD\x1bE\x1bM\x1bH\x1bc\x1b=\x1b>",
        "\x1b(B\x1b)0\x1b(U\x1b*A\x1b+1",
        "\x1b[?1049h\x1b[?1h\x1b[?25l\x1b[?12;25h\x1b[?7l\x1b[?2004h\x1b[?2004l\x1b[4h\x1b[4l\x1b[!p\x1b[2 q\x1b[ q",
        // What vi, less and dialog begin with, as terminfo's `xterm` has it.
        "\x1b[?1049h\x1b[22;0;0t\x1b[?1h\x1b=\r",
    ] {
        let expected = input.replace("\x1b[22;0;0t", "");
        becomes(input, expected);
    }
}

#[test]
fn what_is_no_sequence_is_no_more_than_its_text() {
    for (input, expected) in [
        // Left out: controls that nobody shows, modes that are none, numbers that are too large.
        ("a\0b\x01c\x11d\x13e\x7ff", "abcdef"),
        ("\x1b[?hx\x1b[hx\x1b[?1;hx", "xxx"),
        ("\x1b[10000Ax\x1b[9999Ax\x1b[99999999999999999999999Ax", "x\x1b[9999Axx"),
        ("\x1b[1;2;3Hx\x1b[1:2Hx\x1b[1;2Kx\x1b[?Kx\x1b[>Ax\x1b[1$Ax", "xxxxxx"),
        ("\x1b[[Ax\x1b[]x\x1b#8x\x1bOPx\x1b/Bx", "Axxx Px x".replace(' ', "").as_str()),
        // Broken off, and another begun.
        ("\x1b[1\x1b[2Ax\x1b\x1b[Bx", "\x1b[2Ax\x1b[Bx"),
        ("\x1b[1\x18mx\x1b[1\x1amx\x1b\x18[mx", "mxmx[mx"),
        ("\x1b]0;a\x18bx\x1bPa\x1abx", "bxbx"),
        // Controls within take effect, and the sequence goes on.
        ("\x1b[1\r\n;31mx\x1b[\x05\x07Ax", "\r\n\x1b[1;31mx\x07\x1b[Ax"),
        // Strings: ends, a line end in an OSC, other sequences.
        ("\x1b]0;title\x07a\x1b]0;title\x1b\\b\x1b]0;title\nc\x1b]0;title\x1b[Ad", "ab\nc\x1b[Ad"),
        ("\x1bPq\r\n#1\nx\x1b\\a\x1b_Gx\x07b", "ab"),
        ("\x1b]Ra\x1b]P0123456b\x1b]P0\x07c", "abc"),
        // Characters end a sequence, and are text.
        ("\x1b[1é2c\x1b\u{2500}c\x1b]0;é\u{2502}\x07", "é2c\u{2500}c"),
    ] {
        becomes(input, expected);
    }
}

#[test]
fn a_string_without_an_end_hides_only_so_much() {
    for begin in ["\x1bP", "\x1b_", "\x1b]", "\x1bX", "\u{9d}"] {
        for unit in ["x", "é"] {
            let text = unit.repeat(FILTERED_STRING);
            becomes(format!("{begin}{text}shown"), "shown");
        }
    }
    // Nor does anything that is too long to be a sequence.
    let long = "1;".repeat(FILTERED_SEQUENCE);
    becomes(format!("\x1b[{long}mshown\x1b({}Bshown", " ".repeat(100)), "shownshown");
    let longest = "1".repeat(FILTERED_SEQUENCE);
    passes(format!("\x1b[{longest}m"));
    becomes(format!("\x1b[{longest}1m"), "");
}

#[test]
fn characters_of_utf_8_stay_whole() {
    let text = "Grüße, Žluťoučký kůň, Привет, 你好, 🙂, ┌─┐│└┘, “quoted”, 𝜀";
    assert_eq!(filtered(Charset::Utf8, text.as_bytes()), text.as_bytes());
    // Where the terminal may be an 8-bit one, those are missing whose bytes it would take for something else.
    let shown = String::from_utf8(filtered(Charset::Unknown, text.as_bytes())).unwrap();
    assert_eq!(shown, "Grü?e, Žluťoučký kůň, ?ривет, 你好, ?, ┌─?│└?, “quoted?, ?");
}

#[test]
fn bytes_that_are_no_characters() {
    // Latin-1; what is cut off; a second spelling of ESC, of `/`; a surrogate; past the last character.
    for (input, utf8, unknown) in [
        (&b"\xe9t\xe9x"[..], "\u{fffd}t\u{fffd}x".as_bytes(), &b"\xe9t\xe9x"[..]),
        (b"\xe2\x94x", "\u{fffd}x".as_bytes(), b"\xe2x"),
        (b"\xe2\x94\xc3\xa9", "\u{fffd}é".as_bytes(), b"\xe2\xc3\xa9"),
        (b"\xc0\x9b[c", "\u{fffd}\u{fffd}[c".as_bytes(), b"\xc0c"),
        (b"\xe0\x80\xaf", "\u{fffd}\u{fffd}\u{fffd}".as_bytes(), b"\xe0\xaf"),
        (b"\xed\xa0\x80x", "\u{fffd}\u{fffd}\u{fffd}x".as_bytes(), b"\xed\xa0x"),
        (b"\xf4\xa0x", "\u{fffd}\u{fffd}x".as_bytes(), b"\xf4\xa0x"),
        (b"\xff\xfe", "\u{fffd}\u{fffd}".as_bytes(), b"\xff\xfe"),
        // Alone they are controls to an 8-bit terminal: colours and lines pass, as ESC and a character.
        (b"\x9b31mx\x85y", "\u{fffd}31mx\u{fffd}y".as_bytes(), b"\x1b[31mx\x1bEy"),
        (b"\x9bcx\x9d0;x\x9cy\x9ay", "\u{fffd}cx\u{fffd}0;x\u{fffd}y\u{fffd}y".as_bytes(), b"xyy"),
        (b"\x1b[\x9b6nx", "\u{fffd}6nx".as_bytes(), b"x"),
        (b"\x1b[\xe96nx", "\u{fffd}6nx".as_bytes(), b"\xe96nx"),
        // In UTF-8 they are controls to both.
        ("\u{9b}31mx\u{85}y\u{9b}cz\u{9a}".as_bytes(), b"\x1b[31mx\x1bEyz", b"\x1b[31mx\x1bEyz"),
    ] {
        let shown = CHARSETS.map(|charset| filtered(charset, input).escape_ascii().to_string());
        let expected = [utf8, unknown].map(|bytes| bytes.escape_ascii().to_string());
        assert_eq!(shown, expected, "{}", input.escape_ascii());
    }
}

#[test]
fn memory_is_bounded_however_long_a_sequence_is() {
    let mut filter = EscapeFilter::new(Charset::Unknown);
    let mut shown = Vec::new();
    for begin in ["\x1b[", "\x1b", "\x1bP", "\x1b]"] {
        filter.filter(begin.as_bytes(), &mut shown);
        for _ in 0..10_000 {
            filter.filter(b"    0;", &mut shown);
            let kept = match &filter.state {
                State::Escape(inside) | State::Csi(inside) => inside.bytes.len(),
                State::Ground | State::String { .. } => 0,
            };
            assert!(kept <= FILTERED_SEQUENCE);
            shown.clear();
        }
    }
}

/// Output such as breaks filters: what sequences are made of, whole queries, characters, and anything.
fn output() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(QUERIES).prop_map(|query| query.as_bytes().to_vec()),
        4 => prop::sample::select(vec![
            "\x1b", "\x1b[", "\x1b]", "\x1bP", "\x1b\\", "\x07", "\x18", "\x05", "[", "?", ";", "c", "n", "6", "52", "\r\n",
            "é", "К", "Û", "┐", "\u{9b}", "\u{9d}", "\u{9a}", " ", "$", "\x7f", "m", "T", "%", "Z",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        2 => prop::sample::select(vec![0x80_u8, 0x90, 0x9a, 0x9b, 0x9c, 0x9d, 0xc2, 0xc3, 0xe0, 0xe2, 0xf0, 0xf4, 0xff])
            .prop_map(|byte| vec![byte]),
        2 => prop::collection::vec(any::<u8>(), 0..6),
        1 => "[ -~]{0,10}".prop_map(String::into_bytes),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_output_speaks_to_a_terminal(bytes in output()) {
        speaks_to_no_terminal(&bytes);
    }

    #[test]
    fn escape_filter_never_panics(bytes: Vec<u8>) {
        speaks_to_no_terminal(&bytes);
        for charset in CHARSETS {
            prop_assert!(filtered(charset, &bytes).len() <= 3 * bytes.len());
        }
    }

    /// However it comes in pieces.
    #[test]
    fn filtering_in_pieces_is_filtering_the_whole(bytes in output(), cuts in prop::collection::vec(0..200_usize, 0..8)) {
        for charset in CHARSETS {
            let (mut filter, mut shown) = (EscapeFilter::new(charset), Vec::new());
            let mut rest = &bytes[..];
            for cut in &cuts {
                let (piece, behind) = rest.split_at((*cut).min(rest.len()));
                filter.filter(piece, &mut shown);
                rest = behind;
            }
            filter.filter(rest, &mut shown);
            prop_assert_eq!(&shown, &filtered(charset, &bytes));
        }
    }

    /// What may be shown may be shown.
    #[test]
    fn what_was_filtered_passes(bytes in output()) {
        for charset in CHARSETS {
            // What could be the beginning of a character waits for what comes next.
            let once = [filtered(charset, &bytes), b"x".to_vec()].concat();
            prop_assert_eq!(&filtered(charset, &once), &once);
        }
    }

    /// Characters that no terminal takes for controls are all there.
    #[test]
    fn plain_text_passes(text in "[ -~\\r\\n\\tа-яÀ-ž一-龥]{0,60}") {
        prop_assert_eq!(filtered(Charset::Utf8, text.as_bytes()), text.as_bytes());
    }
}
