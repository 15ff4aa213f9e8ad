//! Augmentation: rotations and reflections of patches.

/// One of the eight symmetries of the square.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dihedral(pub(super) u8);

impl Dihedral {
    /// Appends a transformed square of `side` x `side` samples.
    pub(super) fn append(self, square: &[f32], side: usize, out: &mut Vec<f32>) {
        let flip = |mirrored: bool, i: usize| if mirrored { side - 1 - i } else { i };
        let [transposed, mirror_x, mirror_y] = [0, 1, 2].map(|bit| self.0 >> bit & 1 == 1);
        for y in 0..side {
            for x in 0..side {
                let (x, y) = (flip(mirror_x, x), flip(mirror_y, y));
                let index = if transposed {
                    x * side + y
                } else {
                    y * side + x
                };
                out.push(square[index]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn turns_are_the_eight_of_the_square() {
        let square = [0.0, 1.0, 2.0, 3.0];
        let turned: HashSet<Vec<u32>> = (0..8)
            .map(|i| {
                let mut out = Vec::new();
                Dihedral(i).append(&square, 2, &mut out);
                out.iter().map(|&v| v as u32).collect()
            })
            .collect();
        assert_eq!(turned.len(), 8);
        assert!(turned.contains(&vec![0, 1, 2, 3]) && turned.contains(&vec![2, 0, 3, 1]));
    }
}
