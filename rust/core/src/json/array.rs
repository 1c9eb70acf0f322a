//! A JSON array in which a value can be inserted and removed anywhere without moving all the others.
/// The length from which an array is split into chunks.
const LONG_ITEMS: usize = 512;
/// The most items in one chunk.
const CHUNK_ITEMS: usize = 256;
/// The items of a chunk that is made at once: half of the most, so that it takes many more before it is split.
const NEW_CHUNK_ITEMS: usize = CHUNK_ITEMS / 2;
/// The items for which a full chunk gets space. Doubled space would take more memory than the items themselves.
const ADDED_ITEMS: usize = CHUNK_ITEMS / 8;

/// An array.
#[derive(Debug, Clone)]
pub struct Array<T>(Items<T>);

#[derive(Debug, Clone)]
enum Items<T> {
    Flat(Vec<T>),
    Chunked(Box<Chunks<T>>),
}

impl<T> Array<T> {
    /// Create an array without items.
    pub fn new() -> Self {
        Self(Items::Flat(Vec::new()))
    }

    /// Return the number of items.
    pub fn len(&self) -> usize {
        match &self.0 {
            Items::Flat(items) => items.len(),
            Items::Chunked(chunks) => chunks.len,
        }
    }

    /// Return whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Return an item.
    pub fn get(&self, index: usize) -> Option<&T> {
        match &self.0 {
            Items::Flat(items) => items.get(index),
            Items::Chunked(chunks) => {
                let (chunk, offset) = chunks.find(index)?;
                chunks.parts[chunk].get(offset)
            }
        }
    }

    /// Return an item, to be changed.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        match &mut self.0 {
            Items::Flat(items) => items.get_mut(index),
            Items::Chunked(chunks) => {
                let (chunk, offset) = chunks.find(index)?;
                chunks.parts[chunk].get_mut(offset)
            }
        }
    }

    /// Iterate over the items.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let (flat, chunks) = match &self.0 {
            Items::Flat(items) => (&items[..], &[][..]),
            Items::Chunked(chunks) => (&[][..], &chunks.parts[..]),
        };
        flat.iter().chain(chunks.iter().flatten())
    }

    /// Add an item at the end.
    pub fn push(&mut self, item: T) {
        self.insert(self.len(), item);
    }

    /// Insert an item before the one at an index, which is at most the length.
    pub fn insert(&mut self, index: usize, item: T) {
        match &mut self.0 {
            Items::Flat(items) if items.len() < LONG_ITEMS => {
                if items.capacity() == 0 {
                    // `insert` alone would reserve space for four, and most arrays of a large document are small.
                    items.reserve_exact(1);
                }
                items.insert(index, item);
            }
            Items::Flat(items) => {
                let mut chunks = Chunks::new(std::mem::take(items));
                chunks.insert(index, item);
                self.0 = Items::Chunked(Box::new(chunks));
            }
            Items::Chunked(chunks) => chunks.insert(index, item),
        }
    }

    /// Remove the item at an index.
    pub fn remove(&mut self, index: usize) -> T {
        match &mut self.0 {
            Items::Flat(items) => items.remove(index),
            Items::Chunked(chunks) => chunks.remove(index),
        }
    }
}

impl<T> Default for Array<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: PartialEq> PartialEq for Array<T> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

/// Items in chunks, found by the sums of the chunks' lengths.
#[derive(Debug, Clone)]
struct Chunks<T> {
    parts: Vec<Vec<T>>,
    /// A Fenwick tree of the chunks' lengths: `sums[i]` is the sum of the `lowest_bit(i + 1)` lengths up to chunk `i`.
    sums: Vec<usize>,
    len: usize,
}

impl<T> Chunks<T> {
    fn new(items: Vec<T>) -> Self {
        let mut chunks = Self { parts: Vec::new(), sums: Vec::new(), len: 0 };
        for item in items {
            chunks.push(item);
        }
        chunks
    }

    /// Add an item at the end. Chunks are not split for it, because that sums up all of them.
    fn push(&mut self, item: T) {
        match self.parts.last_mut() {
            Some(last) if last.len() < NEW_CHUNK_ITEMS => last.push(item),
            _ => {
                let mut chunk = Vec::with_capacity(NEW_CHUNK_ITEMS);
                chunk.push(item);
                // The new chunk's sum is that of the chunks before it that it covers; its item is added below.
                let covered = self.parts.len() + 1;
                let steps = (0..covered.trailing_zeros()).map(|power| 1 << power);
                self.sums.push(steps.map(|step: usize| self.sums[self.parts.len() - step]).sum());
                self.parts.push(chunk);
            }
        }
        self.add_to_sums(self.parts.len() - 1, 1);
    }

    fn sum_up(&mut self) {
        self.sums = self.parts.iter().map(Vec::len).collect();
        for at in 0..self.sums.len() {
            let parent = at | (at + 1);
            if parent < self.sums.len() {
                self.sums[parent] += self.sums[at];
            }
        }
    }

    /// Return the chunk of an item and its offset there.
    fn find(&self, index: usize) -> Option<(usize, usize)> {
        if index >= self.len {
            return None;
        }
        let (mut chunk, mut rest) = (0, index);
        let mut step = self.sums.len().next_power_of_two();
        while step > 0 {
            if let Some(sum) = self.sums.get(chunk + step - 1)
                && *sum <= rest
            {
                rest -= sum;
                chunk += step;
            }
            step /= 2;
        }
        Some((chunk, rest))
    }

    fn add_to_sums(&mut self, mut chunk: usize, difference: isize) {
        while let Some(sum) = self.sums.get_mut(chunk) {
            *sum = sum.wrapping_add_signed(difference);
            chunk |= chunk + 1;
        }
        self.len = self.len.wrapping_add_signed(difference);
    }

    fn insert(&mut self, index: usize, item: T) {
        let Some((chunk, offset)) = self.find(index) else { return self.push(item) };
        let items = &mut self.parts[chunk];
        if items.len() == items.capacity() {
            items.reserve_exact(ADDED_ITEMS);
        }
        items.insert(offset, item);
        if items.len() < CHUNK_ITEMS {
            return self.add_to_sums(chunk, 1);
        }
        let second_half = items.split_off(NEW_CHUNK_ITEMS);
        self.parts.insert(chunk + 1, second_half);
        self.len += 1;
        self.sum_up();
    }

    fn remove(&mut self, index: usize) -> T {
        let (chunk, offset) = self.find(index).expect("the index is that of an item");
        let item = self.parts[chunk].remove(offset);
        self.add_to_sums(chunk, -1);
        if self.parts[chunk].is_empty() {
            self.parts.remove(chunk);
            self.sum_up();
        }
        item
    }
}
