//! Four hundred nights of a small fleet, at random.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};
use tenure::{
    operation::{failure::Failure, purge::What},
    store::StoreErrorKind,
    tenant::TenantName,
};

use super::{
    actors::{self, Actor, Ended, Fate},
    store::{Request, lock},
    world::{PLACES, Rows, World, days, tenant},
};

/// A small generator: the same numbers for the same seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x5851_f42d_4c95_7f2d)
    }

    fn roll(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to `below`, without it.
    pub fn upto(&mut self, below: usize) -> usize {
        (self.roll() % below.max(1) as u64) as usize
    }

    /// Once in `n` times.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.upto(n) == 0
    }
}

/// A tenant of the fleet.
pub struct Resident {
    pub tenant: TenantName,
    pub oid: u32,
    pub rows: Rows,
    pub lives: bool,
}

/// What one program is started for.
#[derive(Debug, Clone)]
pub enum Job {
    Backup(usize),
    Rotate(usize),
    Rewrap,
    Prune(usize),
    Purge(usize),
    Hold(usize),
    Release(usize),
    Expire,
    /// Backups that are older than so many days.
    PurgeBefore(usize, i64),
}

pub struct Life<'w> {
    world: &'w World,
    dice: Dice,
    seed: u64,
    night: usize,
    now: DateTime<Utc>,
    fleet: Vec<Resident>,
    trace: VecDeque<String>,
    /// How each kind of job ended, and how often.
    ends: BTreeMap<String, usize>,
    /// Calls that failed or killed.
    faults: usize,
    /// Tenants with a purge that has not come to its end.
    purging: BTreeSet<usize>,
    /// Puts whose answer was lost and that are not there yet.
    late: Vec<(usize, Request)>,
}

/// What is printed when a life goes wrong.
struct Trace<'a, 'w>(&'a Life<'w>);

impl Drop for Trace<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let life = self.0;
            eprintln!("seed {}, night {}; its last calls:", life.seed, life.night);
            life.trace.iter().for_each(|line| eprintln!("  {line}"));
        }
    }
}

const REMEMBERED: usize = 400;

impl<'w> Life<'w> {
    pub fn new(world: &'w World, seed: u64, now: DateTime<Utc>, tenants: usize) -> Self {
        let mut dice = Dice::new(seed);
        let fleet = (0..tenants).map(|n| newcomer(&mut dice, n)).collect();
        let (trace, ends, purging, late) = (VecDeque::new(), BTreeMap::new(), BTreeSet::new(), Vec::new());
        Self { world, dice, seed, night: 0, now, fleet, trace, ends, faults: 0, purging, late }
    }

    fn remember(&mut self, line: String) {
        if self.trace.len() == REMEMBERED {
            self.trace.pop_front();
        }
        self.trace.push_back(line);
    }

    /// One night, and the day after it.
    pub fn night(&mut self) {
        self.night += 1;
        self.now += days(1) + TimeDelta::minutes(self.dice.upto(120) as i64 - 60);
        self.world.set_clock(self.now);
        self.remember(format!("night {}, {}", self.night, self.now));
        for resident in &mut self.fleet {
            change(&mut self.dice, resident);
        }
        if self.dice.once_in(60) && self.fleet.iter().filter(|resident| resident.lives).count() > 2 {
            let n = 1 + self.dice.upto(self.fleet.len() - 1);
            self.fleet[n].lives = false;
            self.remember(format!("{} is dropped", self.fleet[n].tenant));
        }
        if self.fleet.iter().filter(|resident| resident.lives).count() < 3 {
            let newcomer = newcomer(&mut self.dice, self.fleet.len());
            self.fleet.push(newcomer);
        }
        if self.dice.once_in(3)
            && let Some(name) = self.world.hide(|objects| self.dice.upto(objects))
        {
            self.remember(format!("somebody hides {name}"));
        }
        let mut jobs: Vec<Job> = (0..self.fleet.len()).filter(|n| self.fleet[*n].lives).map(Job::Backup).collect();
        if self.dice.once_in(5) {
            // Another host has the same idea.
            jobs.push(jobs[self.dice.upto(jobs.len())].clone());
        }
        if self.dice.once_in(10) {
            jobs.push(Job::Rotate(self.dice.upto(self.fleet.len())));
        }
        if self.dice.once_in(12) {
            if self.dice.once_in(2) {
                self.world.new_identity();
            }
            jobs.push(Job::Rewrap);
        }
        if self.dice.once_in(10) {
            jobs.push(Job::Prune(self.dice.upto(self.fleet.len())));
        }
        if self.dice.once_in(25) {
            jobs.push(Job::Purge(self.dice.upto(self.fleet.len())));
        }
        // Whoever began one goes on with it, one night or another.
        jobs.extend((0..self.fleet.len()).filter(|n| self.purging.contains(n)).map(Job::Purge));
        if !self.dice.once_in(4) {
            jobs.push(Job::Expire);
        }
        if self.dice.once_in(15) {
            jobs.push(Job::PurgeBefore(self.dice.upto(self.fleet.len()), 1 + self.dice.upto(8) as i64));
        }
        if self.dice.once_in(20) {
            jobs.push(Job::Hold(self.dice.upto(self.fleet.len())));
        }
        if self.dice.once_in(12) {
            jobs.push(Job::Release(self.dice.upto(self.fleet.len())));
        }
        for n in (1..jobs.len()).rev() {
            jobs.swap(n, self.dice.upto(n + 1));
        }
        while let Some(job) = jobs.pop() {
            let mut together = vec![job];
            if self.dice.once_in(2) {
                together.extend(jobs.pop());
            }
            self.round(together);
        }
        while let Some((place, request)) = self.late.pop() {
            self.land(place, &request);
        }
        if self.night.is_multiple_of(3) {
            let trace = Trace(self);
            now(trace.0.world.check(self.night.is_multiple_of(24)));
        }
    }

    fn land(&mut self, place: usize, request: &Request) {
        let answer = lock(&self.world.board).take_place(super::store::NOBODY, place, request);
        self.remember(format!("late: {} {} {}: {answer:?}", request.verb(), PLACES[place], request.name()));
        let event = actors::Event { actor: 0, place, request, fate: Fate::Done, answer: &answer };
        self.world.watch(&event);
    }

    async fn job(world: &World, actor: usize, job: Job, fleet: &[Resident]) -> Result<(), Failure> {
        match job {
            Job::Backup(n) => {
                let Resident { tenant, oid, rows, .. } = &fleet[n];
                world.back_up(actor, tenant.clone(), *oid, rows.clone()).await
            }
            Job::Rotate(n) => world.rotate(actor, fleet[n].tenant.clone()).await,
            Job::Rewrap => world.rewrap(actor).await,
            Job::Prune(n) => world.prune(actor, fleet[n].tenant.clone()).await,
            Job::Purge(n) => world.purge(actor, fleet[n].tenant.clone(), What::All).await,
            Job::Expire => world.expire(actor).await,
            Job::PurgeBefore(n, age) => {
                world.purge(actor, fleet[n].tenant.clone(), What::Before(super::world::clock() - days(age))).await
            }
            Job::Hold(n) => world.hold(actor, fleet[n].tenant.clone()).await,
            Job::Release(n) => world.release(actor, fleet[n].tenant.clone()).await,
        }
    }

    /// A few programs at once. Sometimes a call fails, or one of them is killed.
    fn round(&mut self, jobs: Vec<Job>) {
        let (world, alone) = (self.world, jobs.len() == 1);
        self.remember(format!("{jobs:?}"));
        for job in &jobs {
            match job {
                Job::Release(n) => world.is_held(&self.fleet[*n].tenant, false),
                Job::Purge(n) => _ = self.purging.insert(*n),
                _ => {}
            }
        }
        let releases = jobs.iter().any(|job| matches!(job, Job::Release(_)));
        let fleet = std::mem::take(&mut self.fleet);
        let mut dice = Dice::new(self.dice.roll());
        let mut fault = dice.once_in(3).then(|| dice.upto(100));
        let is_faulty = fault.is_some();
        let mut last = 0;
        let ended: Vec<(Job, Ended)> = {
            let mut actors: Vec<Actor<'_>> = jobs
                .iter()
                .enumerate()
                .map(|(n, job)| Actor::new(format!("{n} {job:?}"), Self::job(world, n, job.clone(), &fleet)))
                .collect();
            let names: Vec<String> = actors.iter().map(|actor| actor.name.clone()).collect();
            let life = std::cell::RefCell::new(&mut *self);
            let rolls = std::cell::RefCell::new(dice);
            actors::run(
                &world.board,
                &mut actors,
                |_| {
                    let mut dice = rolls.borrow_mut();
                    let board = lock(&world.board);
                    let open: Vec<_> = board.open().collect();
                    let same: Vec<_> = open.iter().filter(|waiting| waiting.actor == last).collect();
                    let waiting = if !same.is_empty() && !dice.once_in(3) {
                        same[dice.upto(same.len())]
                    } else {
                        &open[dice.upto(open.len())]
                    };
                    last = waiting.actor;
                    let fate = match fault {
                        Some(0) => {
                            fault = None;
                            let fates: &[Fate] = if waiting.request.is_write() {
                                &[
                                    Fate::Refused(StoreErrorKind::Unavailable),
                                    Fate::Lost,
                                    Fate::Late,
                                    Fate::DiesBefore,
                                    Fate::DiesAfter,
                                ]
                            } else {
                                &[Fate::Refused(StoreErrorKind::Unavailable), Fate::DiesBefore]
                            };
                            fates[dice.upto(fates.len())]
                        }
                        Some(calls) => {
                            fault = Some(calls - 1);
                            Fate::Done
                        }
                        None => Fate::Done,
                    };
                    Some((waiting.ticket, fate))
                },
                |event| {
                    let mut life = life.borrow_mut();
                    let line = actors::line(&names[event.actor], &PLACES, event);
                    life.remember(line);
                    if event.fate != Fate::Done {
                        life.faults += 1;
                    }
                    if event.fate == Fate::Late && event.place < PLACES.len() {
                        life.late.push((event.place, event.request.clone()));
                    }
                    let trace = Trace(&life);
                    world.watch(event);
                    drop(trace);
                    let is_time = !life.late.is_empty() && rolls.borrow_mut().once_in(30);
                    if let Some((place, request)) = is_time.then(|| life.late.pop()).flatten() {
                        life.land(place, &request);
                    }
                },
            );
            jobs.into_iter().zip(actors.into_iter().map(|actor| actor.ended)).collect()
        };
        self.fleet = fleet;
        for (job, ended) in ended {
            let how = match &ended {
                None => "killed".to_owned(),
                Some(Ok(())) => "done".to_owned(),
                Some(Err(failure)) => failure.kind.to_owned(),
            };
            self.remember(format!("{job:?}: {how}"));
            match (&job, &ended) {
                // A release at the same time may be of this hold or not.
                (Job::Hold(n), Some(Ok(()))) if !releases => {
                    world.is_held(&self.fleet[*n].tenant, true);
                }
                (Job::Purge(n), Some(Ok(()))) => _ = self.purging.remove(n),
                // Closed, and what was backed up since stays.
                (Job::Purge(n), Some(Err(failure))) if ["unknown-tenant", "new-history"].contains(&failure.kind) => {
                    self.purging.remove(n);
                }
                _ => {}
            }
            let kind = format!("{job:?}").split('(').next().unwrap_or_default().to_owned();
            *self.ends.entry(format!("{kind} {how}")).or_default() += 1;
            if alone && !is_faulty && self.late.is_empty() {
                let trace = Trace(self);
                self.succeeds(&job, &ended);
                drop(trace);
            }
        }
    }

    /// Whoever is alone, and meets no fault, does what it is there for.
    fn succeeds(&self, job: &Job, ended: &Ended) {
        let done = matches!(ended, Some(Ok(())));
        let kind = ended.as_ref().and_then(|ended| ended.as_ref().err()).map(|failure| failure.kind);
        let tenant = match job {
            Job::Rewrap => {
                assert!(done, "{job:?}: {ended:?}");
                return self.world.check_wrappings(true);
            }
            Job::Expire => {
                // Purges that are not through are said each time.
                assert!(done || self.world.has_open_plan() || !self.world.model.borrow().gone.is_empty(), "{ended:?}");
                if done {
                    self.world.check_expired();
                }
                return;
            }
            Job::Backup(n)
            | Job::Rotate(n)
            | Job::Prune(n)
            | Job::Purge(n)
            | Job::PurgeBefore(n, _)
            | Job::Hold(n)
            | Job::Release(n) => &self.fleet[*n].tenant,
        };
        let model = self.world.model.borrow();
        let lockers = self.world.lockers(tenant);
        let keys = now(self.world.nobody.keyring.keys(tenant)).unwrap();
        let lives = keys.is_some_and(|keys| keys.lockers().iter().any(|locker| !model.gone.contains(locker)));
        let is_purging = self.purging.iter().any(|n| self.fleet[*n].tenant == *tenant);
        let may = match job {
            Job::Backup(_) => is_purging && kind == Some("tenant-purged"),
            Job::Rotate(_) => !lives || is_purging,
            Job::Prune(_) => {
                if done {
                    drop(model);
                    self.world.check_pruned(tenant);
                }
                !lives || is_purging || kind == Some("on-hold")
            }
            Job::Purge(_) => {
                let known = !lockers.is_empty();
                let held = kind == Some("on-hold");
                // What is locked stays until its date; what was backed up since its keys were destroyed stays.
                let locks = lock(&self.world.board).disks[0].locks;
                let ends = kind == Some("new-history") || (locks && kind == Some("locked"));
                if done || ends {
                    drop(model);
                    self.world.check_purged(tenant, false);
                }
                held || ends || !known
            }
            Job::Hold(_) => !lives || is_purging,
            Job::Release(_) => matches!(kind, Some("not-held" | "unknown-tenant" | "tenant-purged")),
            Job::PurgeBefore(..) => {
                !lives || is_purging || matches!(kind, Some("on-hold" | "too-young" | "plan-open" | "last-look" | "locked"))
            }
            Job::Rewrap | Job::Expire => false,
        };
        assert!(done || may, "{job:?}: {ended:?}");
    }

    /// What became of it, for people.
    pub fn summary(&self) -> String {
        let model = self.world.model.borrow();
        format!(
            "seed {}: {} nights, {} calls, {} faults, {} backups, {} chunks outlived their births; {:?}",
            self.seed,
            self.night,
            model.events,
            self.faults,
            model.done.len(),
            model.outlived.len(),
            self.ends
        )
    }
}

/// What waits for no call.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    futures_util::FutureExt::now_or_never(future).expect("nobody's calls take place at once")
}

fn newcomer(dice: &mut Dice, n: usize) -> Resident {
    let ranges = 2 + dice.upto(3) as u8;
    let rows = (0..ranges).map(|range| (range, text(dice))).collect();
    Resident { tenant: tenant(&format!("acme{n}")), oid: 20_000 + u32::try_from(n).unwrap(), rows, lives: true }
}

/// A few rows.
fn text(dice: &mut Dice) -> Vec<u8> {
    (0..=dice.upto(3)).flat_map(|n| format!("{n}\t{}\n", dice.roll()).into_bytes()).collect()
}

/// A day's work: the first range stays as it was born.
fn change(dice: &mut Dice, resident: &mut Resident) {
    let text = text(dice);
    let ranges = resident.rows.len();
    match dice.upto(5) {
        0 | 1 => {}
        2 if ranges < 6 => {
            let free = (1..).find(|range| !resident.rows.contains_key(range)).unwrap_or_default();
            resident.rows.insert(free, text);
        }
        3 if ranges > 2 => {
            let last = resident.rows.keys().next_back().copied().unwrap_or_default();
            resident.rows.remove(&last);
        }
        _ => {
            let n = 1 + dice.upto(ranges - 1);
            if let Some(range) = resident.rows.values_mut().nth(n) {
                *range = text;
            }
        }
    }
}
