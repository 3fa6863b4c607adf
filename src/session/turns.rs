//! Whose packets go first: who came first, so that whoever comes later delays nobody; but where a link does not carry a keyframe
//! to all viewers in time, the next one reaches others.
//!
//! A pure core. The viewers keep their order from one keyframe to the next, so that who got a keyframe is also first to get
//! what depends on it.

/// Where the next unit's loop over the viewers starts.
#[derive(Debug, Default)]
pub struct Turns {
    /// The place in the circle of viewers, in 2^-32 of it; moves on with each keyframe that follows a loss.
    place: u32,
    /// Whether packets were given up since the last keyframe.
    overflowed: bool,
    /// Where the loop starts until the next keyframe.
    start: u32,
}

/// The golden ratio of 2^32: its multiples fall evenly on the circle, whatever part of it one keyframe reaches.
const STEP: u32 = 0x9E37_79B9;

impl Turns {
    /// Takes word that packets were given up for lack of room.
    pub fn handle_overflow(&mut self) {
        self.overflowed = true;
    }

    /// Brings `viewers`, who are in the order in which they came, in the order of their turns.
    pub fn rotate<V>(&mut self, viewers: &mut [V], keyframe: bool) {
        if keyframe && std::mem::take(&mut self.overflowed) {
            self.place = self.place.wrapping_add(STEP);
            self.start = self.place;
        } else if keyframe {
            self.start = 0;
        }
        let start = (u64::from(self.start) * viewers.len() as u64) >> 32;
        viewers.rotate_left(start as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However few of the viewers a keyframe reaches, all are reached within about twice the least number of keyframes.
    #[test]
    fn a_link_that_reaches_few_viewers_reaches_others_each_time() {
        for (count, reached) in [(60, 3), (60, 30), (60, 57), (500, 20), (30, 1), (1, 1)] {
            let mut turns = Turns::default();
            let mut waits = vec![0; count];
            for _ in 0..2000 {
                let mut viewers: Vec<_> = (0..count).collect();
                turns.handle_overflow();
                turns.rotate(&mut viewers, true);
                waits.iter_mut().for_each(|wait| *wait += 1);
                viewers.iter().take(reached).for_each(|viewer| waits[*viewer] = 0);
                let longest = waits.iter().max().copied().unwrap_or(0);
                assert!(
                    longest <= 3 * count.div_ceil(reached),
                    "{reached} of {count} reached: {longest} keyframes waited"
                );
                let mut again: Vec<_> = (0..count).collect();
                turns.rotate(&mut again, false);
                assert_eq!(again, viewers, "the order stays until the next keyframe");
            }
        }
    }

    #[test]
    fn who_came_first_goes_first_while_there_is_room_for_all() {
        let mut turns = Turns::default();
        let mut order = |keyframe, overflowed: bool| {
            let mut viewers: Vec<_> = (0..10).collect();
            if overflowed {
                turns.handle_overflow();
            }
            turns.rotate(&mut viewers, keyframe);
            viewers[0]
        };
        assert_eq!([order(true, false), order(false, false), order(true, false)], [0, 0, 0]);
        assert_eq!(
            [order(false, true), order(true, false), order(false, false)],
            [0, 6, 6],
            "others at the next keyframe"
        );
        assert_eq!([order(true, true), order(true, true), order(true, false)], [2, 8, 0]);
    }

    #[test]
    fn nobody_is_no_trouble() {
        Turns::default().rotate::<u32>(&mut [], true);
    }
}
