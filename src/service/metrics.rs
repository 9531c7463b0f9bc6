//! Owns the figures for monitoring: their names, and their text in the OpenMetrics format. It measures nothing: all is in
//! the status and in the histogram. How the text gets to a scraper is `file`'s and `http`'s.
//!
//! The text is one that the older Prometheus text format's parsers take as well, since node_exporter reads files with
//! one of these: there are no types but counters, gauges and histograms.

pub mod file;
pub mod http;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::control::{Reply, Request};
use super::latency::{Latency, Reading};
use super::status::{State, Status};
use crate::tree::totals::Totals;

/// Upper bounds of the latency histogram's buckets, in milliseconds.
const BOUNDS: [u64; 18] =
    [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000];
/// The dispatcher answers at once; if it does not, something is badly wrong and the scraper has to see it.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where the figures come from; cheap to clone.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Tells the services of one machine apart.
    pub name: String,
    pub requests: Sender<Request>,
    pub latency: Arc<Latency>,
}

impl Figures {
    /// The text as of now; `None` when the service does not say how it is.
    pub fn now(&self) -> Option<String> {
        let (reply, answer) = bounded(1);
        self.requests.send_timeout(Request::Status { reply }, PATIENCE).ok()?;
        match answer.recv_timeout(PATIENCE) {
            Ok(Reply::Status(status)) => Some(self.text(*status, true)),
            _ => None,
        }
    }

    /// The text for a status of a service that is running, or was.
    pub fn text(&self, status: Status, is_up: bool) -> String {
        let label = (Cow::Borrowed("name"), Cow::Owned(self.name.clone()));
        let mut registry = Registry::with_prefix_and_labels("driftless", [label].into_iter());
        registry.register_collector(Box::new(Scrape { status, latency: self.latency.reading(), is_up }));
        let mut text = String::new();
        // A string takes everything.
        let _ = text::encode(&mut text, &registry);
        text
    }
}

#[derive(Debug)]
struct Scrape {
    status: Status,
    latency: Reading,
    is_up: bool,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut metrics = Metrics(encoder);
        let status = &self.status;
        metrics.gauge("up", "1 while the service runs", self.is_up.into())?;
        metrics.of("build_info", "The program that runs; always 1", MetricType::Gauge, |mut metric| {
            metric.encode_family(&[("version", status.version.as_str())])?.encode_gauge(&1i64)
        })?;
        metrics.time("start_time", "When the service started, in Unix time", &status.started)?;
        metrics.of("state", "1 for the state that the service is in", MetricType::Gauge, |mut metric| {
            State::ALL.into_iter().try_for_each(|state| {
                let is_it = self.is_up && state == status.state;
                metric.encode_family(&[("state", state.word())])?.encode_gauge(&i64::from(is_it))
            })
        })?;
        metrics.seconds("lag", "Age of the oldest change that is not in the replica", millis(status.lag_ms))?;
        metrics.gauge("pending_paths", "Paths that are known to need a look", status.pending)?;
        let holds = status.holds.len() as u64;
        metrics.gauge("holds", "Reasons for which the service waits for a person", holds)?;
        let held = status.holds.iter().map(|hold| hold.removals).fold(0, u64::saturating_add);
        metrics.gauge("held_removals", "Removals that wait for a person", held)?;
        metrics.gauge(
            "failing_paths",
            "Paths that could not be dealt with and are tried again",
            status.failing_paths,
        )?;
        let help = "Files whose copy may be no version that ever was, or cannot be renewed";
        metrics.gauge("uncertain_files", help, status.uncertain_files)?;
        let help = "Files that a disk has lost the contents of, neither repaired nor changed since";
        metrics.gauge("decayed_files", help, status.scrub.decayed_files)?;
        if let Some(scrub) = &status.scrub.last {
            metrics.time("last_scrub_end_time", "When the last scrub ended, in Unix time", &scrub.finished)?;
        }
        metrics.gauge("watched_folders", "Folders that are watched", status.watches.folders)?;
        let help = "Folders that could not be watched and are looked at from time to time only";
        metrics.gauge("unwatched_folders", help, status.watches.unwatched)?;
        if let Some(limit) = status.watches.limit {
            metrics.gauge("watch_limit", "The system's limit on inotify watches for each user", limit)?;
        }
        metrics.counter("sweeps", "Sweeps that came to their end", None, status.sweeps)?;
        if let Some(sweep) = &status.last_sweep {
            metrics.time("last_sweep_end_time", "When the last sweep ended, in Unix time", &sweep.finished)?;
            metrics.seconds("last_sweep_duration", "How long the last sweep took", millis(sweep.duration_ms))?;
        }
        metrics.of("operations", "Changes made in the replica", MetricType::Counter, |mut metric| {
            operations(&status.totals).into_iter().try_for_each(|(operation, count)| {
                metric.encode_family(&[("operation", operation)])?.encode_counter::<NoLabelSet, _, u64>(&count, None)
            })
        })?;
        if let Some(kept) = &status.kept {
            let figures = [
                ("kept_versions", "Versions that are kept of what was lost", kept.versions),
                ("kept_journal_bytes", "What the journal takes", kept.journal_bytes),
            ];
            for (name, help, value) in figures {
                value.map_or(Ok(()), |value| metrics.gauge(name, help, value))?;
            }
            let help = "What the versions take on disk";
            kept.bytes.map_or(Ok(()), |bytes| metrics.gauge("kept_bytes", help, bytes))?;
            if let Some(since) = &kept.since {
                metrics.time("kept_since_time", "From when on everything can be brought back, in Unix time", since)?;
            }
        }
        let help = "Names that both sides had changed";
        metrics.counter("conflicts", help, None, status.totals.conflicts)?;
        let help = "Bytes of the files that were copied or updated";
        metrics.counter("copied", help, Some(&Unit::Bytes), status.totals.bytes)?;
        metrics.counter("problems", "Times that a path could not be dealt with", None, status.totals.problems)?;
        metrics.latency(&self.latency)
    }
}

/// What was done, by the word that the label has for it.
fn operations(totals: &Totals) -> [(&'static str, u64); 8] {
    [
        ("copied", totals.files_copied),
        ("updated", totals.files_updated),
        ("removed", totals.removed),
        ("renamed", totals.renamed),
        ("metadata", totals.metadata),
        ("directory", totals.directories_created),
        ("link", totals.links),
        ("other", totals.other),
    ]
}

fn millis(millis: u64) -> f64 {
    millis as f64 / 1000.0
}

struct Metrics<'a>(DescriptorEncoder<'a>);

impl Metrics<'_> {
    fn of(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        encode: impl FnOnce(MetricEncoder) -> fmt::Result,
    ) -> fmt::Result {
        encode(self.0.encode_descriptor(name, help, None, kind)?)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.of(name, help, MetricType::Gauge, |mut metric| metric.encode_gauge(&value))
    }

    fn seconds(&mut self, name: &str, help: &str, seconds: f64) -> fmt::Result {
        self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?.encode_gauge(&seconds)
    }

    /// A moment; one that cannot be read is left out.
    fn time(&mut self, name: &str, help: &str, moment: &str) -> fmt::Result {
        let Ok(moment) = moment.parse::<Timestamp>() else { return Ok(()) };
        self.seconds(name, help, moment.as_second() as f64)
    }

    fn counter(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: u64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn latency(&mut self, reading: &Reading) -> fmt::Result {
        let help = "How long changes took from the event to the replica";
        let (mut below, mut buckets) = (0, Vec::with_capacity(BOUNDS.len() + 1));
        for bound in BOUNDS {
            let at_most = reading.at_most(Duration::from_millis(bound));
            buckets.push((millis(bound), at_most - below));
            below = at_most;
        }
        buckets.push((f64::INFINITY, reading.count() - below));
        let unit = Some(&Unit::Seconds);
        let mut metric = self.0.encode_descriptor("event_to_replica", help, unit, MetricType::Histogram)?;
        metric.encode_histogram::<NoLabelSet>(reading.sum().as_secs_f64(), reading.count(), &buckets, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::status::{LastSweep, sample};

    fn text(status: Status, latencies: &[u64], is_up: bool) -> String {
        let latency = Arc::new(Latency::default());
        latencies.iter().for_each(|millis| latency.note(Duration::from_millis(*millis)));
        Figures { name: "pho\"tos".into(), requests: bounded(0).0, latency }.text(status, is_up)
    }

    #[test]
    fn every_sample_bears_the_name_and_follows_its_type() {
        let last_sweep = Some(LastSweep {
            finished: "2026-11-21T14:32:10+01:00".into(),
            duration_ms: 1500,
            totals: Totals::default(),
        });
        let text = text(Status { last_sweep, lag_ms: 250, ..sample() }, &[3, 3, 40, 700_000], true);
        for line in [
            "# TYPE driftless_copied_bytes counter",
            "# UNIT driftless_copied_bytes bytes",
            "driftless_state{name=\"pho\\\"tos\",state=\"in_sync\"} 1",
            "driftless_state{name=\"pho\\\"tos\",state=\"held\"} 0",
            "driftless_lag_seconds{name=\"pho\\\"tos\"} 0.25",
            "driftless_last_sweep_end_time_seconds{name=\"pho\\\"tos\"} 1795267930.0",
            "driftless_last_sweep_duration_seconds{name=\"pho\\\"tos\"} 1.5",
            "driftless_operations_total{name=\"pho\\\"tos\",operation=\"copied\"} 3",
            "driftless_conflicts_total{name=\"pho\\\"tos\"} 0",
            "driftless_event_to_replica_seconds_count{name=\"pho\\\"tos\"} 4",
            "driftless_event_to_replica_seconds_bucket{name=\"pho\\\"tos\",le=\"0.005\"} 2",
            "driftless_event_to_replica_seconds_bucket{name=\"pho\\\"tos\",le=\"500.0\"} 3",
            "driftless_event_to_replica_seconds_bucket{name=\"pho\\\"tos\",le=\"+Inf\"} 4",
        ] {
            assert!(text.lines().any(|there| there == line), "no {line} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
        let samples: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(samples.iter().all(|line| line.starts_with("driftless_") && line.contains("{name=\"pho\\\"tos\"")));
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').nth(1));
        assert!(types.into_iter().all(|kind| ["gauge", "counter", "histogram"].contains(&kind)), "{text}");
    }

    #[test]
    fn service_that_has_ended_is_down_and_in_no_state() {
        let text = text(sample(), &[], false);
        assert!(text.contains("driftless_up{name=\"pho\\\"tos\"} 0\n"), "{text}");
        assert!(!text.lines().any(|line| line.starts_with("driftless_state{") && line.ends_with(" 1")), "{text}");
        assert!(!text.contains("last_sweep"), "there was none:\n{text}");
    }
}
