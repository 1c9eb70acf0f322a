//! A JSON array in which a value can be inserted and removed anywhere without moving all the others.
/// The length from which an array is split into chunks once something changes in its middle.
const LONG_ITEMS: usize = 512;
/// The most items in one chunk.
const CHUNK_ITEMS: usize = 256;

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
        match &mut self.0 {
            Items::Flat(items) => items.push(item),
            Items::Chunked(chunks) => chunks.insert(chunks.len, item),
        }
    }

    /// Insert an item before the one at an index, which is at most the length.
    pub fn insert(&mut self, index: usize, item: T) {
        match self.prepare(index) {
            Items::Flat(items) => items.insert(index, item),
            Items::Chunked(chunks) => chunks.insert(index, item),
        }
    }

    /// Remove the item at an index.
    pub fn remove(&mut self, index: usize) -> T {
        match self.prepare(index + 1) {
            Items::Flat(items) => items.remove(index),
            Items::Chunked(chunks) => chunks.remove(index),
        }
    }

    /// Cut a long array into chunks if items after `index` have to move.
    fn prepare(&mut self, index: usize) -> &mut Items<T> {
        if let Items::Flat(items) = &mut self.0
            && items.len() > LONG_ITEMS
            && index < items.len()
        {
            self.0 = Items::Chunked(Box::new(Chunks::new(std::mem::take(items))));
        }
        &mut self.0
    }
}

impl<T> Default for Array<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> From<Vec<T>> for Array<T> {
    fn from(items: Vec<T>) -> Self {
        Self(Items::Flat(items))
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
        let len = items.len();
        let mut chunks = Vec::with_capacity(len * 2 / CHUNK_ITEMS + 1);
        let mut items = items.into_iter();
        loop {
            // Half full, so that each chunk takes many items before it is split.
            let chunk: Vec<_> = items.by_ref().take(CHUNK_ITEMS / 2).collect();
            if chunk.is_empty() {
                break;
            }
            chunks.push(chunk);
        }
        let mut whole = Self { parts: chunks, sums: Vec::new(), len };
        whole.sum_up();
        whole
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
        // An item at the end goes after the last one.
        let at = self.find(index).or_else(|| Some((self.parts.len().checked_sub(1)?, self.parts.last()?.len())));
        let Some((chunk, offset)) = at else {
            *self = Self::new(vec![item]);
            return;
        };
        self.parts[chunk].insert(offset, item);
        if self.parts[chunk].len() < CHUNK_ITEMS {
            return self.add_to_sums(chunk, 1);
        }
        let second_half = self.parts[chunk].split_off(CHUNK_ITEMS / 2);
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
