//! (c) From the page's `createOffer()` to its first picture, for fresh connections to a daemon that nobody watches yet.

use std::time::Duration;

use serde_json::Value;

use crate::Effort;
use crate::delay::Bench;
use crate::report::{Percentiles, Report};

/// Measures fresh connections one after another.
pub fn measure(effort: Effort, report: &mut Report) {
    let (bench, _client) = Bench::open();
    let page = bench.daemon.page();
    let mut times = Vec::new();
    for _ in 0..effort.joins {
        let mark = bench.daemon.log().mark();
        bench.browser.open("about:blank");
        // Nobody watches any more: the next one finds an encoder that has to start.
        bench.daemon.logged_from(mark, &["encoder stopped"], Duration::from_secs(20));
        bench.browser.open(&page);
        let script = "await lt.until(() => lt.shown !== null, 20000, () => 'a picture'); return lt.shown - lt.offered";
        times.push(bench.browser.run::<f64>(script, &[]));
        bench.browser.run::<Value>("return lt.state(['playing'], 20000)", &[]);
    }
    let values = Percentiles::of(times).unwrap();
    report.add_percentiles("createOffer() to first picture", values, None, [Some(250.0), None]);
}
