//! Shared queues.

use std::collections::VecDeque;

use crate::vm::VmId;

#[derive(Clone, Debug, Default)]
struct Queue {
    name: String,
    items: VecDeque<Vec<u8>>,
    /// Who is told of what comes: all that registered.
    listeners: Vec<(VmId, u32)>,
}

/// All queues; a queue's id is its place, counted from 1.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queues(Vec<Queue>);

impl Queues {
    fn at(&mut self, id: u64) -> Option<&mut Queue> {
        self.0.get_mut(usize::try_from(id).ok()?.checked_sub(1)?)
    }

    pub(crate) fn register(&mut self, name: &str, vm: VmId, root: u32) -> u32 {
        let at = self.0.iter().position(|queue| queue.name == name).unwrap_or_else(|| {
            self.0.push(Queue { name: name.to_owned(), ..Queue::default() });
            self.0.len() - 1
        });
        if let Some(queue) = self.0.get_mut(at).filter(|queue| !queue.listeners.contains(&(vm, root))) {
            queue.listeners.push((vm, root));
        }
        u32::try_from(at + 1).unwrap_or_default()
    }

    pub(crate) fn resolve(&self, name: &str) -> Option<u32> {
        let at = self.0.iter().position(|queue| queue.name == name)?;
        u32::try_from(at + 1).ok()
    }

    /// Who is to be told; `None` if there is no such queue.
    pub(crate) fn push(&mut self, id: u64, item: Vec<u8>) -> Option<Vec<(VmId, u32)>> {
        let queue = self.at(id)?;
        queue.items.push_back(item);
        Some(queue.listeners.clone())
    }

    /// The oldest item; `None` if there is no such queue, and of an empty one.
    #[allow(clippy::option_option)] // The ABI has a status for each.
    pub(crate) fn pop(&mut self, id: u64) -> Option<Option<Vec<u8>>> {
        Some(self.at(id)?.items.pop_front())
    }
}
