//! The order in which the GNU C++ library's `std::sort` leaves equal elements.
//!
//! Introspective sort (Musser 1997, Softw. Pract. Exp. 27): quicksort, its pivot the median of the second, middle and last
//! element, down to pieces of 16, then one insertion sort over all. It is not stable, and which cells of equal height come first
//! decides which cells the published program leaves out of its drainage areas.

/// Pieces up to this length are left to the insertion sort.
const SHORT: usize = 16;

/// Sorts by key, ascending, with equal keys in GNU's order. Where quicksort degenerates (deeper than twice the binary logarithm of
/// the length) GNU changes to heapsort; here a stable sort takes over, whose order of equal keys differs.
pub(crate) fn sort_by_key<T: Copy>(items: &mut [T], key: impl Fn(&T) -> f64) {
    let before = |a: &T, b: &T| key(a) < key(b);
    if items.is_empty() {
        return;
    }
    partition_long_pieces(items, 2 * items.len().ilog2(), &before);
    insertion_sort(items, &before);
}

fn partition_long_pieces<T: Copy>(
    mut items: &mut [T],
    mut depth: u32,
    before: &impl Fn(&T, &T) -> bool,
) {
    while items.len() > SHORT {
        if depth == 0 {
            items.sort_by(|a, b| before(b, a).cmp(&before(a, b)));
            return;
        }
        depth -= 1;
        let cut = partition(items, before);
        let (low, high) = items.split_at_mut(cut);
        partition_long_pieces(high, depth, before);
        items = low;
    }
}

/// Splits around the pivot, which is put first; returns where the upper part starts.
fn partition<T: Copy>(items: &mut [T], before: &impl Fn(&T, &T) -> bool) -> usize {
    let (a, b, c) = (1, items.len() / 2, items.len() - 1);
    let less = |x: usize, y: usize| before(&items[x], &items[y]);
    let median = if less(a, b) {
        if less(b, c) {
            b
        } else if less(a, c) {
            c
        } else {
            a
        }
    } else if less(a, c) {
        a
    } else if less(b, c) {
        c
    } else {
        b
    };
    items.swap(0, median);
    let pivot = items[0];
    // The median guards both ends. Elements equal to the pivot stop both searches and change places.
    let (mut low, mut high) = (1, items.len());
    loop {
        while before(&items[low], &pivot) {
            low += 1;
        }
        high -= 1;
        while before(&pivot, &items[high]) {
            high -= 1;
        }
        if low >= high {
            return low;
        }
        items.swap(low, high);
        low += 1;
    }
}

fn insertion_sort<T: Copy>(items: &mut [T], before: &impl Fn(&T, &T) -> bool) {
    for end in 1..items.len() {
        let item = items[end];
        let place = items[..end]
            .iter()
            .rposition(|other| !before(&item, other))
            .map_or(0, |at| at + 1);
        items.copy_within(place..end, place + 1);
        items[place] = item;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Printed by a C++ program: `std::sort`, GNU libstdc++ 12, of pairs {i, i² mod 7}, i = 0…n-1, by the second.
    const GNU_12: [usize; 12] = [0, 7, 1, 6, 8, 3, 4, 10, 11, 2, 5, 9];
    const GNU_100: [usize; 100] = [
        35, 21, 63, 56, 70, 0, 14, 49, 77, 28, 84, 7, 42, 91, 98, 48, 43, 41, 55, 36, 57, 69, 62,
        64, 50, 71, 76, 78, 83, 85, 90, 92, 97, 99, 1, 20, 22, 34, 15, 13, 27, 8, 29, 6, 74, 67,
        18, 3, 66, 95, 17, 94, 73, 87, 4, 11, 80, 81, 10, 88, 45, 59, 32, 46, 60, 24, 38, 39, 53,
        52, 31, 25, 5, 44, 86, 30, 89, 40, 47, 93, 37, 96, 2, 33, 9, 82, 79, 26, 12, 75, 51, 72,
        16, 54, 68, 23, 65, 58, 19, 61,
    ];

    #[test]
    fn equal_keys_come_in_the_order_of_gnu() {
        for gnu in [&GNU_12[..], &GNU_100[..]] {
            let mut items: Vec<usize> = (0..gnu.len()).collect();
            sort_by_key(&mut items, |i| (i * i % 7) as f64);
            assert_eq!(items, gnu);
        }
    }

    #[test]
    fn any_order_is_sorted() {
        // Organ pipes and saw teeth, on which a median of three makes poor pivots.
        for n in [0, 1, 2, 17, 1000] {
            for key in [
                |i: usize, n: usize| i.min(n - i),
                |i: usize, _| i % 5,
                |i: usize, n: usize| n - i,
            ] {
                let mut items: Vec<usize> = (0..n).map(|i| key(i, n)).collect();
                let mut expected = items.clone();
                expected.sort();
                sort_by_key(&mut items, |k| *k as f64);
                assert_eq!(items, expected);
            }
        }
    }
}
