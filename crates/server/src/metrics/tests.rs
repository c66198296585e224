use super::*;
use std::collections::BTreeSet;

const OBSERVED: Observed = Observed {
    is_ready: true,
    stock_signer_expires: UnixSeconds(1_900_000_000),
    audit_queue: 3,
    store_age: Duration::from_millis(1500),
};

/// Everything counted once.
fn all() -> Metrics {
    let metrics = Metrics::default();
    metrics.answered(Some(Operation::SendSshPublicKey), SUCCESS, Duration::from_millis(4));
    metrics.answered(None, "MissingAuthenticationTokenException", Duration::from_secs(3));
    metrics.sent(&Err(DeliveryError::Unknown));
    metrics.throttled(Limit::Source);
    metrics.enrolled(SUCCESS);
    metrics.link_opened();
    metrics.link_ended("idle");
    metrics.listener("public").accepted.inc();
    metrics.certificate_expiry("public").set(1_800_000_000);
    metrics
}

#[test]
fn what_is_counted_is_told() {
    let text = all().text(OBSERVED).unwrap();
    for line in [
        "instance_connect_requests_total{operation=\"SendSSHPublicKey\",code=\"Success\"} 1",
        "instance_connect_requests_total{operation=\"\",code=\"MissingAuthenticationTokenException\"} 1",
        "instance_connect_request_duration_seconds_bucket{le=\"0.0025\",operation=\"SendSSHPublicKey\"} 0",
        "instance_connect_request_duration_seconds_bucket{le=\"0.005\",operation=\"SendSSHPublicKey\"} 1",
        "instance_connect_request_duration_seconds_bucket{le=\"2.5\",operation=\"\"} 0",
        "instance_connect_request_duration_seconds_bucket{le=\"+Inf\",operation=\"\"} 1",
        "instance_connect_request_duration_seconds_sum{operation=\"\"} 3.0",
        "instance_connect_deliveries_total{outcome=\"delivered\"} 0",
        "instance_connect_deliveries_total{outcome=\"unknown\"} 1",
        "instance_connect_links 1",
        "instance_connect_store_age_seconds 1.5",
        "instance_connect_stock_signer_expiry_timestamp_seconds 1900000000",
        "instance_connect_ready 1",
        "instance_connect_certificate_expiry_timestamp_seconds{listener=\"public\"} 1800000000",
    ] {
        assert!(text.lines().any(|told| told == line), "{line} is not in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn what_the_program_is_told_of_itself() {
    let text = all().text(OBSERVED).unwrap();
    for name in ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"] {
        let line = text.lines().find(|line| line.split(' ').next() == Some(name)).unwrap();
        assert!(line.split(' ').nth(1).unwrap().parse::<f64>().unwrap() > 0.0, "{line}");
    }
}

/// The table in the documentation has what is told, and nothing else.
#[test]
fn every_metric_is_documented() {
    let text = all().text(OBSERVED).unwrap();
    let labels = |line: &str| -> BTreeSet<String> {
        let labels = line.split_once('{').map(|(_, labels)| labels.split('}').next().unwrap());
        let names = labels
            .into_iter()
            .flat_map(|labels| labels.split(','))
            .map(|label| label.split('=').next().unwrap());
        names.filter(|name| *name != "le").map(str::to_owned).collect()
    };
    let mut told = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        // A histogram is named once.
        let name = name.strip_suffix("_bucket").or_else(|| name.strip_suffix("_sum")).unwrap_or(name);
        let name = if name.contains("_duration_seconds") { name.trim_end_matches("_count") } else { name };
        told.insert((name.to_owned(), labels(line)));
    }
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations.md");
    let document = std::fs::read_to_string(document).unwrap();
    let documented: BTreeSet<_> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(metric, _)| metric))
        .filter(|metric| metric.starts_with("instance_connect_") || metric.starts_with("process_"))
        .map(|metric| {
            let name = metric.split('{').next().unwrap().to_owned();
            (name, labels(metric))
        })
        .collect();
    assert_eq!(told, documented);
}
