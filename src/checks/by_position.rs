//! Something for some of the upstreams, by their positions in the directory.

/// A list with gaps.
pub(super) struct ByPosition<T>(Vec<Option<T>>);

impl<T> Default for ByPosition<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> ByPosition<T> {
    pub(super) fn get(&self, position: usize) -> Option<&T> {
        self.0.get(position)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, position: usize) -> Option<&mut T> {
        self.0.get_mut(position)?.as_mut()
    }

    pub(super) fn set(&mut self, position: usize, value: T) {
        if self.0.len() <= position {
            self.0.resize_with(position + 1, || None);
        }
        if let Some(slot) = self.0.get_mut(position) {
            *slot = Some(value);
        }
    }

    pub(super) fn remove(&mut self, position: usize) {
        if let Some(slot) = self.0.get_mut(position) {
            *slot = None;
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut T)> {
        self.0.iter_mut().enumerate().filter_map(|(position, value)| Some((position, value.as_mut()?)))
    }
}
