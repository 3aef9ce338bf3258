//! What `drop`, `purge` and `erase` say alike.

use super::table::time;
use crate::operation::purge::{OpenItem, PurgedKeyCopy, PurgedNode};

/// What became of each server.
pub(super) fn nodes(nodes: &[PurgedNode]) -> String {
    let line = |node: &PurgedNode| {
        let replayed = node.replay_lsn.as_ref().map(|lsn| format!(", replayed up to {lsn}")).unwrap_or_default();
        format!("{}: {}{replayed}\n", node.node, node.state)
    };
    nodes.iter().map(line).collect()
}

/// Where copies of the keys were destroyed, and where not.
pub(super) fn key_copies(copies: &[PurgedKeyCopy]) -> String {
    let line = |copy: &PurgedKeyCopy| match copy.destroyed_at {
        Some(at) => format!("keys destroyed in {}, read back as absent at {}\n", copy.store, time(at)),
        None => format!("keys NOT destroyed in {}\n", copy.store),
    };
    copies.iter().map(line).collect()
}

/// What is left to be done.
pub(super) fn open(items: &[OpenItem]) -> String {
    items.iter().map(|item| format!("open: {}: {}\n", item.object, item.what)).collect()
}
