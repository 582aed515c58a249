//! How the balancers of all upstreams share the room for their tables.

use crate::balancer::TableKind;
use crate::model::spec::UpstreamSpec;
use crate::registry::Registry;

use super::error::{ConfigErrors, Place};

/// Says in each upstream how often its balancer's table is cut to a quarter, and warns where that is done.
pub(super) fn fit(
    at: &Place<'_>,
    upstreams: &mut [(String, UpstreamSpec)],
    registry: &Registry,
    errors: &mut ConfigErrors,
) {
    let mut done: Vec<&'static TableKind> = Vec::new();
    for table in registry.balancers().filter_map(|kind| kind.table) {
        if done.iter().any(|done| std::ptr::eq(*done, table)) {
            continue;
        }
        done.push(table);
        let kinds: Vec<&str> = registry
            .balancers()
            .filter(|kind| kind.table.is_some_and(|of| std::ptr::eq(of, table)))
            .map(|kind| kind.name)
            .collect();
        let (mut pools, mut count) = (Vec::new(), 0);
        for (_, spec) in upstreams.iter().filter(|(_, spec)| kinds.contains(&spec.balancer.name.as_str())) {
            // Backups have a table of their own.
            for backup in [false, true] {
                let servers = spec.servers.iter().filter(|server| server.backup == backup);
                pools.push(servers.map(|server| u32::from(server.weight)).collect());
            }
            count += 1;
        }
        let fit = table.fit(&pools);
        if fit.reduction == 0 {
            continue;
        }
        for (_, spec) in upstreams.iter_mut().filter(|(_, spec)| kinds.contains(&spec.balancer.name.as_str())) {
            spec.balancer.reduction = fit.reduction;
        }
        let mib = |bytes: u64| format!("{} MiB", bytes.div_ceil(1 << 20));
        let (names, room, wanted, bytes) = (kinds.join(" and "), mib(table.budget), mib(fit.wanted), mib(fit.bytes));
        errors.warn(
            at,
            format!(
                "the tables of {names}, {count} upstreams, would take {wanted} of each worker's memory if all were in use, and \
                 there is room for {room}: they are reduced to {bytes}, so {}",
                table.consequence
            ),
        );
    }
}
