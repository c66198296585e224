//! What every program tells of itself, under the names that dashboards know.

use super::FloatGauge;
use crate::system::SystemClock;
use instance_connect_core::environment::Clock as _;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rustix::param::page_size;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Metrics {
    cpu: Counter<f64, AtomicU64>,
    resident_memory: FloatGauge,
    open_descriptors: Gauge,
    max_descriptors: FloatGauge,
}

impl Metrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let start = Gauge::<i64>::default();
        start.set(SystemClock.wall().0);
        registry.register("process_start_time_seconds", "When it was started", start);
        registry.register("process_cpu_seconds", "Processor time it has used", metrics.cpu.clone());
        let resident = metrics.resident_memory.clone();
        registry.register("process_resident_memory_bytes", "Memory it has in use", resident);
        registry.register(
            "process_open_fds",
            "File descriptors it has open",
            metrics.open_descriptors.clone(),
        );
        let max = metrics.max_descriptors.clone();
        registry.register("process_max_fds", "File descriptors it may have open", max);
        metrics
    }

    /// Looks again. What the system does not tell stays as it was.
    pub(super) fn look(&self) {
        if let Ok(used) = Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)) {
            self.cpu.inner().store(used.as_secs_f64().to_bits(), Ordering::Relaxed);
        }
        // The second number of it is of pages.
        let pages = fs::read_to_string("/proc/self/statm").ok();
        if let Some(Ok(pages)) = pages.and_then(|text| text.split(' ').nth(1).map(str::parse::<u32>)) {
            self.resident_memory.set(f64::from(pages) * page_size() as f64);
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            self.open_descriptors.set(i64::try_from(open.count()).unwrap_or(i64::MAX));
        }
        let most = getrlimit(Resource::Nofile).current;
        self.max_descriptors.set(most.map_or(f64::INFINITY, |most| most as f64));
    }
}
