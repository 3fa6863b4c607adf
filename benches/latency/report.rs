//! The figures: collected, printed as a table, written as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Map, Value, json};

/// One figure.
struct Row {
    name: String,
    unit: &'static str,
    value: f64,
    floor: Option<f64>,
    bar: Option<f64>,
}

/// All figures of a run.
pub struct Report {
    rows: Vec<Row>,
    notes: Map<String, Value>,
}

/// The percentiles that are reported.
#[derive(Debug, Clone, Copy)]
pub struct Percentiles {
    /// The median.
    pub p50: f64,
    /// Nineteen of twenty are at most this.
    pub p95: f64,
    /// Ninety-nine of a hundred are at most this.
    pub p99: f64,
}

impl Percentiles {
    /// The percentiles by nearest rank; `None` of nothing.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let rank = |share: f64| {
            let rank = (values.len() as f64 * share).ceil() as usize;
            values.get(rank.saturating_sub(1)).copied()
        };
        Some(Self { p50: rank(0.5)?, p95: rank(0.95)?, p99: rank(0.99)? })
    }
}

impl Report {
    /// Starts with what is known of the machine.
    pub fn new() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let model = read("/proc/cpuinfo");
        let model =
            model.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let mut notes = Map::new();
        notes.insert("cpu".into(), json!(model.unwrap_or("unknown")));
        notes.insert("cores".into(), json!(cores));
        notes.insert("load at start".into(), json!(read("/proc/loadavg").split(' ').next().unwrap_or_default()));
        Self { rows: Vec::new(), notes }
    }

    /// The machine in one line.
    pub fn machine(&self) -> String {
        self.notes.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join(", ")
    }

    /// Adds a figure, beside its floor and its bar where it has them.
    pub fn add(&mut self, name: &str, unit: &'static str, value: f64, floor: Option<f64>, bar: Option<f64>) {
        let row = Row { name: name.to_owned(), unit, value, floor, bar };
        println!("{}", line(&row));
        self.rows.push(row);
    }

    /// Adds percentiles of milliseconds; bars are for p50 and p95.
    pub fn add_percentiles(
        &mut self,
        name: &str,
        values: Percentiles,
        floor: Option<Percentiles>,
        bars: [Option<f64>; 2],
    ) {
        self.add(&format!("{name} p50"), "ms", values.p50, floor.map(|f| f.p50), bars[0]);
        self.add(&format!("{name} p95"), "ms", values.p95, floor.map(|f| f.p95), bars[1]);
        self.add(&format!("{name} p99"), "ms", values.p99, floor.map(|f| f.p99), None);
    }

    /// Adds a remark.
    pub fn note(&mut self, name: &str, value: Value) {
        println!("{name}: {value}");
        self.notes.insert(name.to_owned(), value);
    }

    /// Everything as a table.
    pub fn table(&self) -> String {
        let mut table = format!("{:<44} {:>9} {:>9} {:>9}\n", "", "laterna", "floor", "bar");
        for row in &self.rows {
            let _ = writeln!(table, "{}", line(row));
        }
        table
    }

    /// Everything as JSON.
    pub fn json(&self) -> String {
        let row = |row: &Row| json!({ "name": row.name, "unit": row.unit, "value": row.value, "floor": row.floor, "bar": row.bar, "met": met(row) });
        let figures: Vec<Value> = self.rows.iter().map(row).collect();
        format!("{:#}\n", json!({ "machine and notes": self.notes, "figures": figures }))
    }
}

fn met(row: &Row) -> Option<bool> {
    row.bar.map(|bar| row.value <= bar)
}

fn line(row: &Row) -> String {
    let optional = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"));
    let verdict = match met(row) {
        Some(true) => "met",
        Some(false) => "MISSED",
        None => "",
    };
    let name = format!("{} [{}]", row.name, row.unit);
    format!("{name:<44} {:>9.2} {:>9} {:>9} {verdict}", row.value, optional(row.floor), optional(row.bar))
}

/// CPU time as percent of one core.
pub fn percent(cpu: Duration, of: Duration) -> f64 {
    100.0 * cpu.as_secs_f64() / of.as_secs_f64()
}
