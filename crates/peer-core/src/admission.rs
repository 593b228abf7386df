//! Who may hold a connection when there is no room for everybody: pure decisions.
//!
//! Connections that have not shown the token live in a small budget of their own, so strangers
//! compete with strangers only. There the newest gets in: a paired peer sends its head at once and
//! is out of this budget within milliseconds, while whoever fills it is there to stay. Whoever
//! holds most pays first, so that one host cannot push out all others. And whoever has not been
//! listened to yet stays before whoever was: else a burst of strangers would push out a peer whose
//! head is there and whose thread had no turn.

use core::{cmp::Reverse, net::IpAddr};

/// How many connections a server keeps at the same time. Each one is a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections that have not shown the token.
    pub strangers: usize,
    /// The same, from one address.
    pub strangers_per_address: usize,
    /// Connections that have shown the token.
    pub paired: usize,
    /// The same, from one address.
    pub paired_per_address: usize,
}

impl Default for Limits {
    /// 48 strangers, 32 of them from one address; 240 paired connections, 200 of them from one.
    fn default() -> Self {
        Self {
            strangers: 48,
            strangers_per_address: 32,
            paired: 240,
            paired_per_address: 200,
        }
    }
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Has not shown the token since it came.
    Stranger {
        /// It was listened to, and did not show it then. Otherwise its thread had no turn yet, and
        /// the token may be among what is there.
        heard: bool,
    },
    /// Has shown it, and waits for its next request since this point of a growing count.
    Idle(u64),
    /// Has shown it, and is being served.
    Busy,
}

impl Standing {
    /// Whether the token was not shown.
    #[must_use]
    pub const fn is_stranger(self) -> bool {
        matches!(self, Self::Stranger { .. })
    }
}

/// One connection that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The peer's address. An IPv4 address in IPv6 clothing must be given as IPv4.
    pub address: IpAddr,
    /// Where it stands.
    pub standing: Standing,
    /// Grows with each connection: smaller is older.
    pub arrival: u64,
}

/// What to do about a newcomer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// There is room.
    Admit,
    /// There is room once the connection with this arrival number is closed.
    Replace(u64),
    /// There is none, and nobody to give way.
    Refuse,
}

/// Decides about a connection that was just accepted from `address`. Never refuses while the
/// budget is not zero: the newest gets in.
#[must_use]
pub fn admit_stranger(limits: &Limits, address: IpAddr, holders: &[Holder]) -> Decision {
    let strangers = || {
        holders
            .iter()
            .filter(|holder| holder.standing.is_stranger())
    };
    let from = |address: IpAddr| strangers().filter(move |holder| holder.address == address);
    if from(address).count() >= limits.strangers_per_address {
        let first = from(address).max_by_key(patience);
        return first.map_or(Decision::Refuse, |holder| Decision::Replace(holder.arrival));
    }
    if strangers().count() < limits.strangers {
        return Decision::Admit;
    }
    stranger_to_go(limits, holders).map_or(Decision::Refuse, Decision::Replace)
}

/// Which stranger gives way, by its arrival number, where room is needed, in the budget or of the
/// system's: one of the address that holds most, one that was heard if there is one, the oldest of
/// those.
///
/// Addresses with no more than a sixth of the budget are equals in that: else strangers who hold it
/// with one connection for each of many addresses would have a peer pay that opens two at once.
#[must_use]
pub fn stranger_to_go(limits: &Limits, holders: &[Holder]) -> Option<u64> {
    let strangers = || {
        holders
            .iter()
            .filter(|holder| holder.standing.is_stranger())
    };
    let held = |address: IpAddr| {
        strangers()
            .filter(move |holder| holder.address == address)
            .count()
    };
    let fair = limits.strangers / 6;
    let key = |holder: &&Holder| (held(holder.address).max(fair), patience(holder));
    strangers().max_by_key(key).map(|holder| holder.arrival)
}

/// The greater, the sooner a stranger has to go: who was heard before the others, the oldest first.
///
/// What a stranger sends meanwhile does not count: else whoever keeps the server busy would outlast a
/// peer whose head is still on its way.
fn patience(holder: &&Holder) -> (bool, Reverse<u64>) {
    let heard = holder.standing == Standing::Stranger { heard: true };
    (heard, Reverse(holder.arrival))
}

/// Decides about a connection from `address` that has just shown the token. An idle connection
/// gives way, the longest idle one first; a busy one never does.
#[must_use]
pub fn admit_paired(limits: &Limits, address: IpAddr, holders: &[Holder]) -> Decision {
    let paired = || {
        holders
            .iter()
            .filter(|holder| !holder.standing.is_stranger())
    };
    let count = |address: IpAddr| {
        paired()
            .filter(move |holder| holder.address == address)
            .count()
    };
    let longest_idle = |only: Option<IpAddr>| {
        let idle = paired().filter_map(|holder| match holder.standing {
            Standing::Idle(since) if only.is_none_or(|only| holder.address == only) => {
                Some((holder, since))
            }
            _ => None,
        });
        let chosen = idle.max_by_key(|(holder, since)| {
            (count(holder.address), Reverse((*since, holder.arrival)))
        });
        chosen.map_or(Decision::Refuse, |(holder, _)| {
            Decision::Replace(holder.arrival)
        })
    };
    if count(address) >= limits.paired_per_address {
        return longest_idle(Some(address));
    }
    if paired().count() < limits.paired {
        Decision::Admit
    } else {
        longest_idle(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        strangers: 4,
        strangers_per_address: 3,
        paired: 4,
        paired_per_address: 3,
    };

    const HEARD: Standing = Standing::Stranger { heard: true };
    const UNHEARD: Standing = Standing::Stranger { heard: false };

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// `(address, standing)` in order of arrival.
    fn holders(rows: &[(u8, Standing)]) -> Vec<Holder> {
        let holder = |(arrival, &(last, standing)): (usize, &(u8, Standing))| Holder {
            address: address(last),
            standing,
            arrival: arrival as u64,
        };
        rows.iter().enumerate().map(holder).collect()
    }

    #[test]
    fn a_stranger_never_takes_the_place_of_who_showed_the_token() {
        let idle = [(1, Standing::Idle(1)), (1, Standing::Idle(2))];
        let strangers = [(1, Standing::Stranger { heard: true }); 3];
        let rows: Vec<_> = idle.into_iter().chain(strangers).collect();
        // The oldest stranger's place is 2: the two before it have shown the token.
        let decision = admit_stranger(&LIMITS, address(1), &holders(&rows));
        assert_eq!(decision, Decision::Replace(2));
        let decision = admit_stranger(&LIMITS, address(1), &holders(&rows[..4]));
        assert_eq!(decision, Decision::Admit);
    }

    #[test]
    fn strangers() {
        use Decision::{Admit, Replace};
        use Standing::Busy;
        for (rows, from, expected) in [
            (&[][..], 1, Admit),
            (&[(1, HEARD), (1, HEARD)], 1, Admit),
            // One address pays itself, even while there is room for others.
            (&[(1, HEARD), (1, HEARD), (1, HEARD)], 1, Replace(0)),
            (&[(1, HEARD), (1, HEARD), (1, HEARD)], 2, Admit),
            // Full: whoever holds most pays, with its oldest.
            (
                &[(2, HEARD), (1, HEARD), (1, HEARD), (1, HEARD)],
                2,
                Replace(1),
            ),
            (
                &[(2, HEARD), (1, HEARD), (1, HEARD), (3, HEARD)],
                4,
                Replace(1),
            ),
            // All hold the same: the oldest.
            (
                &[(4, HEARD), (3, HEARD), (2, HEARD), (1, HEARD)],
                5,
                Replace(0),
            ),
            (
                &[(1, HEARD), (2, HEARD), (1, HEARD), (2, HEARD)],
                5,
                Replace(0),
            ),
            // Whoever was not listened to yet stays, while there is somebody who was.
            (&[(1, UNHEARD), (1, HEARD), (1, HEARD)], 1, Replace(1)),
            (
                &[(1, UNHEARD), (2, UNHEARD), (3, HEARD), (4, HEARD)],
                5,
                Replace(2),
            ),
            // But one address does not keep the others out by it.
            (
                &[(1, UNHEARD), (1, UNHEARD), (2, HEARD), (1, UNHEARD)],
                3,
                Replace(0),
            ),
            // Paired connections are another budget.
            (&[(1, Busy), (1, Busy), (1, Busy), (1, Busy)], 1, Admit),
        ] {
            assert_eq!(
                admit_stranger(&LIMITS, address(from), &holders(rows)),
                expected,
                "{rows:?}"
            );
        }
        for (strangers, strangers_per_address) in [(0, 3), (4, 0), (0, 0)] {
            let none = Limits {
                strangers,
                strangers_per_address,
                ..LIMITS
            };
            assert_eq!(admit_stranger(&none, address(1), &[]), Decision::Refuse);
        }
    }

    #[test]
    fn a_fair_share_is_not_paid_for() {
        let limits = Limits {
            strangers: 12,
            strangers_per_address: 10,
            ..LIMITS
        };
        // One connection for each of ten addresses, and a peer that opens two at once.
        let mut rows: Vec<_> = (10..20).map(|last| (last, HEARD)).collect();
        rows.extend([(1, HEARD), (1, HEARD)]);
        let newcomer = |last| admit_stranger(&limits, address(last), &holders(&rows));
        assert_eq!(newcomer(1), Decision::Replace(0), "not the peer's first");
        assert_eq!(newcomer(30), Decision::Replace(0));
        // One more, and it holds more than anybody else does.
        rows[3] = (1, HEARD);
        let newcomer = |last| admit_stranger(&limits, address(last), &holders(&rows));
        assert_eq!(newcomer(30), Decision::Replace(3));
    }

    #[test]
    fn paired() {
        use Decision::{Admit, Refuse, Replace};
        use Standing::{Busy, Idle};
        for (rows, from, expected) in [
            (&[][..], 1, Admit),
            (&[(1, HEARD), (1, HEARD), (1, HEARD), (1, HEARD)], 1, Admit),
            (&[(1, Busy), (1, Busy), (1, Idle(5))], 1, Replace(2)),
            (&[(1, Busy), (1, Busy), (1, Busy)], 1, Refuse),
            (&[(1, Busy), (1, Busy), (1, Busy)], 2, Admit),
            (
                &[(1, Busy), (1, Idle(9)), (2, Idle(1)), (1, Idle(8))],
                3,
                Replace(3),
            ),
            (
                &[(1, Idle(3)), (2, Idle(1)), (3, Idle(2)), (4, Busy)],
                5,
                Replace(1),
            ),
            (&[(1, Busy), (2, Busy), (3, Busy), (4, Busy)], 5, Refuse),
            // Another address's idle connection does not help against one's own cap.
            (&[(1, Busy), (1, Busy), (1, Busy), (2, Idle(0))], 1, Refuse),
        ] {
            assert_eq!(
                admit_paired(&LIMITS, address(from), &holders(rows)),
                expected,
                "{rows:?}"
            );
        }
    }

    #[test]
    fn no_budget_is_ever_exceeded() {
        // Every sequence of arrivals from three addresses, as far as the budget is small.
        let mut present: Vec<Holder> = Vec::new();
        let mut seed = 1u64;
        for arrival in 0..10_000 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let from = address((seed >> 33) as u8 % 3);
            match admit_stranger(&LIMITS, from, &present) {
                Decision::Admit => {}
                Decision::Replace(old) => present.retain(|holder| holder.arrival != old),
                Decision::Refuse => panic!("the newest stranger was refused"),
            }
            present.push(Holder {
                address: from,
                standing: HEARD,
                arrival,
            });
            assert!(present.len() <= LIMITS.strangers);
            for last in 0..3 {
                let held = present
                    .iter()
                    .filter(|holder| holder.address == address(last))
                    .count();
                assert!(held <= LIMITS.strangers_per_address);
            }
        }
    }
}
