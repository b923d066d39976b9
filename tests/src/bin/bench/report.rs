//! What was measured, as a table, as JSON and as a drawing.

use std::path::Path;

use anyhow::{Context as _, Result};
use comfy_table::{CellAlignment, Table, presets};
use plotters::prelude::*;
use serde_json::{Value, json};

use crate::floor::Floor;
use crate::measure::Measured;
use crate::scenario::Scenario;
use crate::system::On;

/// What one scenario came to on one set of parts.
pub(crate) struct Line {
    pub(crate) on: On,
    pub(crate) scenario: Scenario,
    /// The one in the middle.
    pub(crate) median: Measured,
    /// The least and the most seconds that it took.
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// Everything that was measured.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) lines: Vec<Line>,
    pub(crate) floor: Option<Floor>,
}

const COLUMNS: [&str; 16] = [
    "parts",
    "scenario",
    "s",
    "min–max",
    "runs/s",
    "jobs/s",
    "p50 ms",
    "p99 ms",
    "packed",
    "CPU µs/job e/w/r/s/c",
    "msg/run",
    "scripts/run",
    "kB/run amqp/redis",
    "Redis B/job",
    "RSS MB e/w",
    "of floor",
];

impl Report {
    pub(crate) fn print(&self) {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN).set_header(COLUMNS);
        for line in &self.lines {
            table.add_row(self.cells(line));
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        println!("{table}");
        println!("CPU: engine / workers / RabbitMQ / Redis / client. RSS: the most of one process, engine / worker.");
        if let Some(floor) = &self.floor {
            println!(
                "floor: {:.0} messages/s of 1 job, {:.0} of 100 jobs; {:.0} scripts/s; a hop {:.2} ms, a call {:.2} ms",
                floor.small_messages, floor.large_messages, floor.scripts, floor.hop, floor.round_trip
            );
        }
    }

    fn cells(&self, line: &Line) -> Vec<String> {
        let Line { on, scenario, median, least, most } = line;
        let (runs, jobs) = (median.done.runs as f64, median.done.jobs as f64);
        let some = |value: Option<f64>, digits: usize| value.map_or("–".into(), |value| format!("{value:.digits$}"));
        let taken = &median.taken;
        let served = taken.served;
        let cpu = [
            Some(taken.engine_cpu),
            Some(taken.worker_cpu),
            served.map(|served| served.rabbitmq_cpu),
            served.map(|served| served.redis_cpu),
            Some(taken.client_cpu),
        ];
        let cpu = cpu.map(|seconds| some(seconds.map(|seconds| seconds * 1e6 / jobs), 1)).join(" / ");
        let bytes = [served.map(|served| served.amqp_bytes), served.map(|served| served.redis_bytes)]
            .map(|bytes| some(bytes.map(|bytes| bytes as f64 / 1000.0 / runs), 1))
            .join(" / ");
        let (engine, worker) = median.peaks;
        let scripts = served.map_or(taken.commits, |served| served.scripts);
        vec![
            on.to_string(),
            scenario.to_string(),
            format!("{:.2}", median.seconds),
            format!("{least:.2}–{most:.2}"),
            format!("{:.1}", median.runs_a_second()),
            format!("{:.0}", median.jobs_a_second()),
            some(median.quantile(0.5), 2),
            some(median.quantile(0.99), 2),
            some(median.done.ideal.map(|ideal| 100.0 * ideal / median.seconds), 1),
            cpu,
            some(served.map(|served| served.messages as f64 / runs), 1),
            format!("{:.1}", scripts as f64 / runs),
            bytes,
            some(median.kept.map(|kept| kept as f64 / jobs), 2),
            format!("{} / {}", engine / 1_000_000, worker / 1_000_000),
            some(self.of_floor(line), 2),
        ]
    }

    /// How near a line comes to what the servers could do alone, one after the other, with as many messages and scripts.
    fn of_floor(&self, line: &Line) -> Option<f64> {
        let served = line.median.taken.served?;
        let is_large = matches!(line.scenario, Scenario::FanOut { .. });
        Some(self.floor.as_ref()?.seconds(served.messages, served.scripts, is_large) / line.median.seconds)
    }

    pub(crate) fn write_json(&self, file: &Path) -> Result<()> {
        let lines: Vec<Value> = self.lines.iter().map(|line| self.line(line)).collect();
        let text = serde_json::to_string_pretty(&json!({ "lines": lines, "floor": self.floor }))?;
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    fn line(&self, line: &Line) -> Value {
        let Line { on, scenario, median, least, most } = line;
        let taken = &median.taken;
        json!({
            "parts": on.to_string(), "scenario": scenario.to_string(),
            "runs": median.done.runs, "jobs": median.done.jobs,
            "seconds": median.seconds, "least_seconds": least, "most_seconds": most,
            "p50_ms": median.quantile(0.5), "p99_ms": median.quantile(0.99), "ideal_seconds": median.done.ideal,
            "cpu_seconds": {
                "engine": taken.engine_cpu, "workers": taken.worker_cpu, "client": taken.client_cpu,
                "rabbitmq": taken.served.map(|served| served.rabbitmq_cpu),
                "redis": taken.served.map(|served| served.redis_cpu),
            },
            "commits": taken.commits,
            "messages": taken.served.map(|served| served.messages),
            "scripts": taken.served.map(|served| served.scripts),
            "amqp_bytes": taken.served.map(|served| served.amqp_bytes),
            "redis_bytes": taken.served.map(|served| served.redis_bytes),
            "redis_kept_bytes": median.kept,
            "rss_bytes": { "engine": median.peaks.0, "worker": median.peaks.1 },
            "of_floor": self.of_floor(line),
        })
    }

    /// Draws the processor time of a job against the number of jobs of a fan-out, a line for each set of parts.
    pub(crate) fn draw(&self, file: &Path) -> Result<()> {
        let area = SVGBackend::new(file, (800, 480)).into_drawing_area();
        area.fill(&WHITE)?;
        let of = |on: On| -> Vec<(f64, f64)> {
            let here = self.lines.iter().filter(|line| line.on == on);
            here.filter_map(|line| match line.scenario {
                Scenario::FanOut { jobs, listed: false, output: false } => Some((jobs as f64, cost(&line.median))),
                _ => None,
            })
            .collect()
        };
        let all = [On::Rabbitmq, On::Embedded, On::Gateway].map(|on| (on, of(on)));
        let largest =
            |pick: fn(&(f64, f64)) -> f64| all.iter().flat_map(|(_, line)| line).map(pick).fold(1.0, f64::max);
        let (jobs, costs) = (largest(|point| point.0), largest(|point| point.1));
        let mut chart = ChartBuilder::on(&area)
            .caption("processor time of a job, by the number of jobs of a fan-out", ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d((1.0..jobs).log_scale(), (1.0..costs * 1.5).log_scale())?;
        chart.configure_mesh().x_desc("jobs").y_desc("µs a job").draw()?;
        for ((on, line), color) in all.into_iter().zip([RED, BLUE, GREEN]).filter(|((_, line), _)| !line.is_empty()) {
            let drawn = chart.draw_series(LineSeries::new(line, color.stroke_width(2)))?;
            drawn.label(on.to_string()).legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color));
        }
        chart.configure_series_labels().border_style(BLACK).background_style(WHITE).draw()?;
        area.present()?;
        Ok(())
    }
}

/// What a job took of all processors, in microseconds, without what the client took.
fn cost(measured: &Measured) -> f64 {
    let taken = &measured.taken;
    let servers = taken.served.map_or(0.0, |served| served.rabbitmq_cpu + served.redis_cpu);
    (taken.engine_cpu + taken.worker_cpu + servers) * 1e6 / measured.done.jobs as f64
}
