//! The anchors that a machine is sent in place of its own.
#![no_main]

use aws_lc_rs::signature::Ed25519KeyPair;
use instance_connect_document::{
    ANCHOR_SET_LIMIT, AnchorSet, AnchorSetRefusal, Anchors, SigningKey, base64_encode,
};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

/// What an anchor signs begins with this.
const DOMAIN: &str = "instance-connect anchor set v1\n";
const REGION: &str = "us-east-1";

/// An anchor that the machine trusts, in a form that signs anything, right or wrong.
static ANCHOR: LazyLock<(Anchors, Ed25519KeyPair)> = LazyLock::new(|| {
    let anchor = SigningKey::from_seed(&[1; 32]).unwrap().verifying_key();
    let current = Anchors::parse(&Anchors::line(&REGION.parse().unwrap(), &anchor)).unwrap();
    (current, Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap())
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(set) = text.parse::<AnchorSet>() else { return };
    let (current, anchor) = &*ANCHOR;
    // It is the anchors file that the machine then has, and it does not replace itself.
    assert!(set.as_str() == text && text.len() <= ANCHOR_SET_LIMIT);
    let anchors = Anchors::parse(text).unwrap();
    assert!(set.number() > 0 && anchors.set() == set.number());
    assert_eq!(set.replaces(&anchors), Err(AnchorSetRefusal::NotNewer));
    // Nobody here has the anchor's key.
    assert_eq!(set.replaces(current), Err(AnchorSetRefusal::Untrusted));

    // What the anchor has signed is taken, as far as it is about the anchor's own region.
    let (above, _) = text.trim_end_matches('\n').rsplit_once('\n').unwrap();
    let signature = base64_encode(anchor.sign(format!("{DOMAIN}{above}\n").as_bytes()).as_ref());
    let signed = format!("{above}\n# signed {signature}\n");
    let Ok(signed) = signed.parse::<AnchorSet>() else {
        return assert!(signed.len() > ANCHOR_SET_LIMIT);
    };
    let anchors = above.lines().filter(|line| !line.trim_ascii().is_empty() && !line.starts_with('#'));
    let mut regions = anchors.map(|line| line.split_ascii_whitespace().next().unwrap());
    let expected =
        if regions.all(|region| region == REGION) { Ok(()) } else { Err(AnchorSetRefusal::Untrusted) };
    assert_eq!(signed.replaces(current), expected);
});
