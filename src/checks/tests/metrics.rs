//! What metrics tell of the checks themselves.

use super::*;
use crate::testing::test;

#[test]
fn metrics_tell_when_the_last_check_was_made_by_anybody() {
    let sim = Sim::new();
    let mut all = workers(&sim, 2, &with_api(&two_servers(HTTP)));
    let last = |worker: &mut Worker| {
        let page = api(worker, "/metrics");
        let name = "durpina_checks_last_timestamp_seconds{upstream=\"u\"} ";
        page.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse::<f64>().unwrap()
    };
    all[0].tick();
    assert_eq!(last(&mut all[0]), 0.0, "none yet");
    pass(&sim, &mut all, secs(10));
    let now = |worker: &Worker| worker.host.now().as_millis() as f64 / 1e3;
    for worker in &mut all {
        let ago = now(worker) - last(worker);
        assert!((0.0..2.1).contains(&ago), "{ago} s ago");
    }
    // Every VM is gone: nobody ticks.
    sim.advance(secs(100));
    let ago = now(&all[1]) - last(&mut all[1]);
    assert!((100.0..102.1).contains(&ago), "{ago} s ago");
}

#[test]
fn upstreams_without_monitors_have_no_last_check() {
    let sim = Sim::new();
    let mut all = workers(&sim, 1, &with_api(&two_servers("")));
    pass(&sim, &mut all, secs(1));
    assert!(!api(&mut all[0], "/metrics").contains("durpina_checks_last_timestamp_seconds{"));
}
