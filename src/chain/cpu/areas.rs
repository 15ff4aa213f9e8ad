//! The parts of a result that depend on the damage of its input: rectangles of
//! cells, which an executor computes as regions.

use crate::frame::damage::Damage;
use std::ops::Range;

/// The share of a result from which on all of it is computed: what several areas
/// compute twice, where they meet, takes the rest.
const WHOLE: f64 = 0.8;

/// The most areas that are compared with a new one: more would take longer than
/// they save.
const MAX_AREAS: usize = 64;

/// A rectangle of cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Area {
    pub(crate) columns: Range<usize>,
    pub(crate) rows: Range<usize>,
}

impl Area {
    fn cells(&self) -> usize {
        self.columns.len() * self.rows.len()
    }

    /// What it takes to compute, in cells: each area also computes a halo.
    fn cost(&self) -> usize {
        (self.columns.len() + 1) * (self.rows.len() + 1)
    }

    /// The smallest area with both.
    fn hull(&self, other: &Self) -> Self {
        let hull = |a: &Range<usize>, b: &Range<usize>| a.start.min(b.start)..a.end.max(b.end);
        Self {
            columns: hull(&self.columns, &other.columns),
            rows: hull(&self.rows, &other.rows),
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        let overlap = |a: &Range<usize>, b: &Range<usize>| a.start < b.end && b.start < a.end;
        overlap(&self.columns, &other.columns) && overlap(&self.rows, &other.rows)
    }

    /// The area in parts of at most so many columns, and bands of at least
    /// `MIN_ROWS` rows with about `cells` cells each.
    fn split(&self, (columns, rows): (usize, usize), cells: usize) -> Vec<Self> {
        /// Rows of a band: thinner ones mostly compute halos.
        const MIN_ROWS: usize = 3;
        let strips = self.columns.len().div_ceil(columns.max(1));
        let width = self.columns.len().div_ceil(strips.max(1)).max(1);
        let even = (self.rows.len() * width).div_ceil(cells.max(1));
        let bands = even.min(self.rows.len() / MIN_ROWS).max(1);
        let height = self.rows.len().div_ceil(bands).min(rows).max(1);
        let parts = |range: &Range<usize>, step: usize| {
            let end = range.end;
            let starts = range.clone().step_by(step);
            starts.map(move |start| start..(start + step).min(end))
        };
        let row = |rows: Range<usize>| {
            parts(&self.columns, width).map(move |columns| Self {
                columns,
                rows: rows.clone(),
            })
        };
        parts(&self.rows, height).flat_map(row).collect()
    }
}

/// What of a result is to be computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Areas {
    /// All of it.
    Whole,
    /// *Disjoint areas*: no cell lies in two of them.
    Parts(Vec<Area>),
}

impl Areas {
    /// Nothing.
    pub(crate) fn none() -> Self {
        Self::Parts(Vec::new())
    }

    /// Whether nothing is to be computed.
    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Self::Parts(parts) if parts.is_empty())
    }

    fn add(&mut self, mut new: Area) {
        let Self::Parts(areas) = self else { return };
        if areas.iter().any(|area| area.hull(&new) == *area) {
            return;
        }
        loop {
            let compare = areas.len() <= MAX_AREAS;
            let joins = |area: &Area| {
                area.overlaps(&new) || compare && area.hull(&new).cost() <= area.cost() + new.cost()
            };
            match areas.iter().rposition(joins) {
                Some(i) => new = areas.swap_remove(i).hull(&new),
                None => break areas.push(new),
            }
        }
    }

    /// The areas in parts that keep `threads` threads busy, of at most so many
    /// columns and rows of cells.
    pub(crate) fn balanced(areas: &[Area], limit: (usize, usize), threads: usize) -> Vec<Area> {
        let all: usize = areas.iter().map(Area::cells).sum();
        let share = all.div_ceil(2 * threads.max(1));
        let parts = areas.iter().flat_map(|area| area.split(limit, share));
        parts.collect()
    }
}

/// The cells of a result, and what each depends on.
#[derive(Debug)]
pub(crate) struct CellGrid {
    /// Side of a cell in samples of the result.
    pub(super) side: usize,
    /// Width and height of the result in samples.
    pub(super) size: (usize, usize),
    /// The columns of the input that each column of cells depends on, ascending.
    pub(super) columns: Vec<Range<usize>>,
    /// The rows of the input that each row of cells depends on, ascending.
    pub(super) rows: Vec<Range<usize>>,
}

impl CellGrid {
    /// Adds the cells that depend on the damage of the input, and those that lie in
    /// the damage of the result.
    pub(crate) fn extend(&self, areas: &mut Areas, input: &Damage, result: &Damage) {
        if input.is_all() || result.is_all() {
            *areas = Areas::Whole;
            return;
        }
        let samples = |cell: usize, end: usize| cell * self.side..((cell + 1) * self.side).min(end);
        for (row, reads) in self.rows.iter().enumerate() {
            let read = input.columns_within(reads.clone());
            let own = result.columns_within(samples(row, self.size.1));
            if read.is_empty() && own.is_empty() {
                continue;
            }
            let hit = |damage: &[Range<usize>], columns: &Range<usize>| {
                let first = damage.partition_point(|span| span.end <= columns.start);
                damage
                    .get(first)
                    .is_some_and(|span| span.start < columns.end)
            };
            let is_hit = |&column: &usize| {
                hit(&read, &self.columns[column]) || hit(&own, &samples(column, self.size.0))
            };
            let mut column = 0;
            while let Some(start) = (column..self.columns.len()).find(is_hit) {
                column = (start..self.columns.len())
                    .find(|column| !is_hit(column))
                    .unwrap_or(self.columns.len());
                areas.add(Area {
                    columns: start..column,
                    rows: row..row + 1,
                });
            }
        }
        if self.share(areas) > WHOLE {
            *areas = Areas::Whole;
        }
    }

    /// The share of the result that is to be computed, 0 to 1.
    pub(crate) fn share(&self, areas: &Areas) -> f64 {
        let Areas::Parts(parts) = areas else {
            return 1.0;
        };
        let cells: usize = parts.iter().map(Area::cells).sum();
        cells as f64 / (self.columns.len() * self.rows.len()).max(1) as f64
    }

    /// The samples of the result that are to be computed.
    pub(crate) fn damage(&self, areas: &Areas) -> Damage {
        let Areas::Parts(parts) = areas else {
            return Damage::all(self.size);
        };
        let mut damage = Damage::none(self.size);
        let samples = |cells: &Range<usize>, end: usize| {
            cells.start * self.side..(cells.end * self.side).min(end)
        };
        for area in parts {
            for y in samples(&area.rows, self.size.1) {
                damage.add(y, samples(&area.columns, self.size.0));
            }
        }
        damage
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Cells of 4 samples, from an input of the same size, with a halo of 3.
    fn grid(columns: usize, rows: usize) -> CellGrid {
        let reads = |cells: usize| {
            let read = |cell: usize| (4 * cell).saturating_sub(3)..(4 * cell + 7).min(4 * cells);
            (0..cells).map(read).collect()
        };
        CellGrid {
            side: 4,
            size: (4 * columns, 4 * rows),
            columns: reads(columns),
            rows: reads(rows),
        }
    }

    fn area(columns: Range<usize>, rows: Range<usize>) -> Area {
        Area { columns, rows }
    }

    #[test]
    fn a_change_reaches_the_cells_that_read_it() {
        let grid = grid(20, 20);
        let none = Damage::none(grid.size);
        for (x, y, expected) in [
            (5, 5, area(0..3, 0..3)),
            // Read by the cell, and by that on its left from 3 samples away.
            (42, 41, area(9..12, 9..12)),
            (0, 0, area(0..1, 0..1)),
            (79, 79, area(19..20, 19..20)),
        ] {
            let mut damage = none.clone();
            damage.add(y, x..x + 1);
            let mut areas = Areas::none();
            grid.extend(&mut areas, &damage, &none);
            assert_eq!(areas, Areas::Parts(vec![expected]));
        }
    }

    #[test]
    fn much_damage_is_all_of_it() {
        let grid = grid(10, 10);
        let none = Damage::none(grid.size);
        let mut damage = none.clone();
        (0..40).for_each(|y| damage.add(y, 0..37));
        let mut areas = Areas::none();
        grid.extend(&mut areas, &damage, &none);
        assert_eq!(areas, Areas::Whole);
        assert!(grid.damage(&areas).is_all());
    }

    #[test]
    fn far_areas_stay_apart_and_close_ones_join() {
        let mut areas = Areas::none();
        areas.add(area(0..2, 0..2));
        areas.add(area(12..14, 12..14));
        areas.add(area(2..4, 0..2));
        let expected = [area(12..14, 12..14), area(0..4, 0..2)];
        assert_eq!(areas, Areas::Parts(expected.to_vec()));
    }

    proptest! {
        /// Whatever is damaged: all cells that read it are computed, none twice, and
        /// parts are the areas.
        #[test]
        fn areas_are_disjoint_and_complete(
            spots in prop::collection::vec((0..120usize, 0..90usize, 1..20usize, 1..9usize), 0..40),
            threads in 1..6usize,
        ) {
            let grid = grid(30, 23);
            let none = Damage::none(grid.size);
            let mut damage = none.clone();
            for (x, y, width, height) in spots {
                (y..(y + height).min(92)).for_each(|y| damage.add(y, x..(x + width).min(120)));
            }
            let mut areas = Areas::none();
            grid.extend(&mut areas, &damage, &none);
            let Areas::Parts(parts) = &areas else { return Ok(()) };
            let parts = Areas::balanced(parts, (7, 50), threads);
            for column in 0..30 {
                for row in 0..23 {
                    let holds = |area: &&Area| area.columns.contains(&column) && area.rows.contains(&row);
                    let count = parts.iter().filter(holds).count();
                    let reads = damage.columns_within(grid.rows[row].clone());
                    let columns = &grid.columns[column];
                    let hit = reads.iter().any(|x| x.start < columns.end && columns.start < x.end);
                    prop_assert!(count <= 1 && (count == 1 || !hit));
                }
            }
            prop_assert!(parts.iter().all(|part| part.columns.len() <= 7));
            // What is damaged in the result is computed too.
            let all = grid.damage(&areas);
            grid.extend(&mut areas, &none, &all);
            let after = grid.damage(&areas);
            let mut both = after.clone();
            both.unite(&all);
            prop_assert!(after.is_all() || both == after);
        }
    }
}
