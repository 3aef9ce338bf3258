//! A model-checked life: the protocols themselves, in stores that are a table in memory, in a time that is a variable.
//!
//! [`nights`] is a life at random, [`schedules`] every order of the calls of two programs. `docs/testing.md` says how to run more of it.
#![allow(clippy::print_stderr, reason = "says how much was walked, and what came before a failure")]

mod actors;
mod commands;
mod nights;
mod schedules;
mod store;
mod world;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt as _;
use tenure::{
    operation::{
        failure::{Failure, FailureClass},
        held::Locks as _,
        purge::What,
    },
    store::PutMode,
};

use self::{
    actors::Actor,
    nights::{Dice, Life, now},
    schedules::How,
    store::lock,
    world::{Kind, Rows, World, days, tenant},
};

fn first_night() -> DateTime<Utc> {
    "2026-01-29T03:00:00Z".parse().unwrap()
}

/// Blocking work (sealing) runs on its threads; nothing else does.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn rows(texts: &[&str]) -> Rows {
    texts.iter().enumerate().map(|(n, text)| (n as u8, format!("{text}\n").into_bytes())).collect()
}

/// Whether every schedule is walked, however many there are: `TENURE_TEST_SCHEDULES=all`.
fn every_schedule() -> bool {
    std::env::var("TENURE_TEST_SCHEDULES").is_ok_and(|value| value == "all")
}

/// How many lives, each with a seed of its own: `TENURE_TEST_LIFE`. `TENURE_TEST_LIFE_SEED` is the first one's.
fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().map_or(otherwise, |text| text.parse().unwrap())
}

/// Of one life.
const NIGHTS: u64 = 400;

/// Of one life in which the vault locks what it is given.
const LOCKED_NIGHTS: u64 = 40;

#[test]
fn many_nights() {
    lives(false, number("TENURE_TEST_LIFE_NIGHTS", NIGHTS));
}

#[test]
fn many_nights_with_object_lock() {
    lives(true, number("TENURE_TEST_LIFE_NIGHTS", LOCKED_NIGHTS));
}

fn lives(locks: bool, nights: u64) {
    let runtime = runtime();
    let _entered = runtime.enter();
    let first = number("TENURE_TEST_LIFE_SEED", 1);
    for seed in first..first + number("TENURE_TEST_LIFE", 1) {
        let window = locks.then(|| "governance 4 days".parse().unwrap());
        let kind = Kind { page: Some(7), mirrors: 1, window, versions: seed % 3 < 2 };
        let mut world = now(World::new(first_night(), 2, kind));
        for (n, keep) in ["10 days", "1 month", "2 weeks", "40 days"].iter().enumerate() {
            world.keeps.insert(tenant(&format!("acme{n}")), keep.parse().unwrap());
        }
        for n in 4..100 {
            world.keeps.insert(tenant(&format!("acme{n}")), "3 weeks".parse().unwrap());
        }
        let mut life = Life::new(&world, seed, first_night(), 4);
        for _ in 0..nights {
            life.night();
        }
        now(world.check(true));
        eprintln!("{}", life.summary());
        assert!(!world.model.borrow().outlived.is_empty(), "no chunk outlived the backup that it was born in");
    }
}

/// How two programs ended, in words.
fn words(actors: &[Actor<'_>]) -> String {
    let word = |actor: &Actor<'_>| match actor.ended.as_ref() {
        Some(Ok(())) => "done",
        Some(Err(failure)) => failure.kind,
        None => "killed",
    };
    actors.iter().map(word).collect::<Vec<_>>().join(", ")
}

/// What must be so after any schedule of programs that leave the tenant alive: everything listed restores, and the next night is a good one.
fn next_night(world: &World) {
    let then = lock(&world.board).now;
    now(world.check(true));
    world.set_clock(then + days(1));
    let mut next = [Actor::new("the next night", world.back_up(0, tenant("acme"), 1, rows(&["one", "three"])))];
    world.finish(&mut next);
    assert!(matches!(next[0].ended, Some(Ok(()))), "the next night: {:?}", next[0].ended);
    now(world.check(true));
    world.set_clock(then);
}

/// A world with one tenant and a few nights of it.
fn with_nights(nights: i64, mirrors: usize, excludes: bool) -> World {
    let world = now(World::new(first_night(), 2, Kind { mirrors, ..Kind::default() }));
    for night in 0..nights {
        world.set_clock(first_night() + days(night));
        let texts = ["one".to_owned(), format!("night {night}")];
        let rows = rows(&[&texts[0], &texts[1]]);
        let mut backup = [Actor::new("a night", world.back_up(0, tenant("acme"), 1, rows))];
        world.finish(&mut backup);
        assert!(matches!(backup[0].ended, Some(Ok(()))), "{:?}", backup[0].ended);
    }
    world.set_clock(first_night() + days(nights));
    lock(&world.board).excludes = excludes;
    world
}

fn title(what: &str, excludes: bool) -> String {
    if excludes { what.to_owned() } else { format!("{what} without a lock") }
}

/// Calls at random that depend on each other's answers. The name of its last object says all of them.
async fn little_program(world: &World, actor: usize, seed: u64) -> Result<(), Failure> {
    let mut dice = Dice::new(seed);
    let store = world.slots[actor].vault.store();
    let mut held = None;
    let mut told = String::new();
    for _ in 0..5 {
        let name = format!("x/{}/{}", dice.upto(2), dice.upto(2));
        let is_there = match dice.upto(6) {
            0 => store.put(&name, "x".into(), PutMode::CreateOnly).await.is_ok(),
            1 => store.delete(&name).await.is_ok(),
            2 => store.get(&name, 9).await.is_ok(),
            3 => store.list(&name[..4]).count().await > 0,
            4 if held.is_none() => {
                held = world.locks(actor).take(&tenant("acme"), "eu-1").await.ok();
                held.is_some()
            }
            _ => held.take().is_some(),
        };
        told.push(if is_there { '1' } else { '0' });
        // What it does next depends on it.
        if !is_there && dice.once_in(2) {
            dice.upto(2);
        }
    }
    store.put(&format!("x/end/{actor}/{told}"), "x".into(), PutMode::CreateOnly).await.map(drop).map_err(Failure::from)
}

/// Puts two objects into the tenant's locker, as a backup does that lost its lock.
async fn late_writer(world: &World, actor: usize) -> Result<(), Failure> {
    let store = world.slots[actor].vault.store();
    for locker in world.lockers(&tenant("acme")) {
        for name in [format!("t/{locker}/b/late"), format!("t/{locker}/later")] {
            store.put(&name, "x".into(), PutMode::CreateOnly).await?;
        }
    }
    Ok(())
}

/// Walking less loses no end: all orders come to the same ends as those that are walked, each with the same objects, written by programs that
/// were told the same.
#[test]
fn what_the_walk_leaves_out_comes_to_the_same() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let (mut less_replays, mut all_replays) = (0, 0);
    let mut compare = |what: &str, (reduces, merges), world: &World, start: &dyn for<'w> Fn(&'w World) -> [Actor<'w>; 2]| {
        let walked = [(true, true), (reduces, merges)].map(|(reduces, merges)| {
            let how = How { reduces, merges, all: true };
            schedules::walk_as(what, world, how, start, |actors, ends| *ends.entry(words(actors)).or_default() += 1)
        });
        let [(less, ends), (all, all_ends)] = walked;
        let missing = all_ends.symmetric_difference(&ends).next();
        assert!(missing.is_none(), "{what}: {} ends of {}; {missing:?}", ends.len(), all_ends.len());
        (less_replays, all_replays) = (less_replays + less.replays, all_replays + all.replays);
    };
    for seed in 0..60 {
        let world = with_nights(0, 0, seed % 3 > 0);
        compare(&format!("little programs {seed}"), (false, false), &world, &|world| {
            [0, 1].map(|actor| Actor::new(format!("{actor}"), little_program(world, actor, 2 * seed + actor as u64)))
        });
    }
    let world = with_nights(1, 0, true);
    compare("late writer/purge", (true, false), &world, &|world| {
        let purge = World::purge(world, 1, tenant("acme"), What::All);
        [Actor::new("late writer", late_writer(world, 0)), Actor::new("purge", purge)]
    });
    if every_schedule() {
        let world = with_nights(1, 0, true);
        compare("hold/purge", (false, true), &world, &|world| {
            let purge = World::purge(world, 1, tenant("acme"), What::All);
            [Actor::new("hold", World::hold(world, 0, tenant("acme"))), Actor::new("purge", purge)]
        });
        let world = with_expired_nights(true);
        compare("expire/expire", (false, true), &world, &|world| {
            [0, 1].map(|actor| Actor::new(format!("expire {actor}"), World::expire(world, actor)))
        });
    }
    assert!(less_replays * 2 < all_replays, "{less_replays} replays instead of {all_replays}");
}

/// Points that are taken for the same are: whoever goes first there makes the same call, is told the same, and comes to the same point,
/// whichever way led there. Some ways are walked to their ends, or all of them.
#[test]
fn the_same_points_lead_to_the_same() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let how = How { reduces: true, merges: false, all: every_schedule() };
    for excludes in [true, false] {
        let world = with_nights(1, 0, excludes);
        world.new_identity();
        let purge = |world| Actor::new("purge", World::purge(world, 1, tenant("acme"), What::All));
        let backup = |world| Actor::new("backup", World::back_up(world, 0, tenant("acme"), 1, rows(&["one", "two"])));
        schedules::walk_as(&title("backup/purge", excludes), &world, how, |world| [backup(world), purge(world)], |_, _| {});
        let rotate = |world| Actor::new("rotate", World::rotate(world, 0, tenant("acme")));
        schedules::walk_as(&title("rotate/purge", excludes), &world, how, |world| [rotate(world), purge(world)], |_, _| {});
        // These take no lock.
        if excludes {
            let rewrap = |world| Actor::new("rewrap", World::rewrap(world, 0));
            schedules::walk_as("rewrap/purge", &world, how, |world| [rewrap(world), purge(world)], |_, _| {});
            let hold = |world| Actor::new("hold", World::hold(world, 0, tenant("acme")));
            schedules::walk_as("hold/purge", &world, how, |world| [hold(world), purge(world)], |_, _| {});
        }
    }
}

/// Both make a key where the lock keeps nobody out: every backup that comes of it restores.
#[test]
fn schedules_of_create_and_create() {
    let runtime = runtime();
    let _entered = runtime.enter();
    for excludes in [true, false] {
        let world = with_nights(0, 0, excludes);
        let start = |world| {
            [0, 1].map(|actor| {
                let texts = [["one", "two"], ["one", "zwei"]][actor];
                Actor::new(format!("backup {actor}"), World::back_up(world, actor, tenant("acme"), 1, rows(&texts)))
            })
        };
        schedules::walk(&title("create/create", excludes), &world, start, |actors, ends| {
            let busy =
                actors.iter().filter(|actor| matches!(&actor.ended, Some(Err(failure)) if failure.class == FailureClass::Busy));
            assert!(excludes || busy.count() == 0);
            *ends.entry(words(actors)).or_default() += 1;
            next_night(&world);
        });
    }
}

#[test]
fn schedules_of_rotate_and_rewrap() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let world = with_nights(1, 1, true);
    world.new_identity();
    let start =
        |world| [Actor::new("rotate", World::rotate(world, 0, tenant("acme"))), Actor::new("rewrap", World::rewrap(world, 1))];
    schedules::walk("rotate/rewrap", &world, start, |actors, ends| {
        *ends.entry(words(actors)).or_default() += 1;
        next_night(&world);
        // Whatever it missed, the next one does.
        let mut again = [Actor::new("rewrap again", world.rewrap(0))];
        world.finish(&mut again);
        assert!(matches!(again[0].ended, Some(Ok(()))), "{:?}", again[0].ended);
        world.check_wrappings(true);
    });
}

#[test]
fn schedules_of_backup_and_rotate() {
    let runtime = runtime();
    let _entered = runtime.enter();
    for excludes in [true, false] {
        let world = with_nights(1, 0, excludes);
        let start = |world| {
            let backup = World::back_up(world, 0, tenant("acme"), 1, rows(&["one", "two"]));
            [Actor::new("backup", backup), Actor::new("rotate", World::rotate(world, 1, tenant("acme")))]
        };
        schedules::walk(&title("backup/rotate", excludes), &world, start, |actors, ends| {
            *ends.entry(words(actors)).or_default() += 1;
            next_night(&world);
        });
    }
}

/// A purge that says that it is closed leaves nothing, whatever the other one does; and what the other one says is true.
#[test]
fn schedules_of_backup_and_purge() {
    let runtime = runtime();
    let _entered = runtime.enter();
    for excludes in [true, false] {
        let world = with_nights(1, 0, excludes);
        let start = |world| {
            let backup = World::back_up(world, 0, tenant("acme"), 1, rows(&["one", "two"]));
            [Actor::new("backup", backup), Actor::new("purge", World::purge(world, 1, tenant("acme"), What::All))]
        };
        schedules::walk(&title("backup/purge", excludes), &world, start, |actors, ends| {
            *ends.entry(words(actors)).or_default() += 1;
            after_purge(&world, actors, excludes);
        });
    }
}

#[test]
fn schedules_of_rewrap_and_purge() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let world = with_nights(1, 0, true);
    world.new_identity();
    let start = |world| {
        let purge = World::purge(world, 1, tenant("acme"), What::All);
        [Actor::new("rewrap", World::rewrap(world, 0)), Actor::new("purge", purge)]
    };
    schedules::walk("rewrap/purge", &world, start, |actors, ends| {
        *ends.entry(words(actors)).or_default() += 1;
        after_purge(&world, actors, true);
    });
}

#[test]
fn schedules_of_rotate_and_purge() {
    let runtime = runtime();
    let _entered = runtime.enter();
    for excludes in [true, false] {
        let world = with_nights(1, 0, excludes);
        let start = |world| {
            let purge = World::purge(world, 1, tenant("acme"), What::All);
            [Actor::new("rotate", World::rotate(world, 0, tenant("acme"))), Actor::new("purge", purge)]
        };
        schedules::walk(&title("rotate/purge", excludes), &world, start, |actors, ends| {
            *ends.entry(words(actors)).or_default() += 1;
            after_purge(&world, actors, excludes);
        });
    }
}

/// Exactly one of the two gets its way, and each says the truth.
#[test]
fn schedules_of_hold_and_purge() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let world = with_nights(1, 0, true);
    let start = |world| {
        let purge = World::purge(world, 1, tenant("acme"), What::All);
        [Actor::new("hold", World::hold(world, 0, tenant("acme"))), Actor::new("purge", purge)]
    };
    schedules::walk("hold/purge", &world, start, |actors, ends| {
        *ends.entry(words(actors)).or_default() += 1;
        let is_held = matches!(actors[0].ended, Some(Ok(())));
        let is_purged = matches!(actors[1].ended, Some(Ok(())));
        assert!(!(is_held && is_purged), "held and purged");
        if is_held {
            // Nothing was destroyed, and nothing is until the release.
            let lockers = world.lockers(&tenant("acme"));
            world.model.borrow_mut().held.extend(lockers);
            let (held, kinds) = (world.model.borrow().written.clone(), ["vault", "keyring"]);
            for written in held.values() {
                let board = lock(&world.board);
                let missing = written.names.iter().find(|name| !board.disks[0].objects.contains_key(*name));
                assert!(missing.is_none(), "{missing:?} is gone from the {}", kinds[0]);
            }
            let mut again = [Actor::new("purge again", world.purge(0, tenant("acme"), What::All))];
            world.finish(&mut again);
            assert_eq!(words(&again), "on-hold");
            world.model.borrow_mut().held.clear();
            let mut release = [Actor::new("release", world.release(0, tenant("acme")))];
            world.finish(&mut release);
            assert_eq!(words(&release), "done");
        }
        after_purge(&world, actors, true);
    });
}

/// Whatever a purge left, it is closed in the end; then nothing is there, and the tenant can begin anew.
fn after_purge(world: &World, actors: &[Actor<'_>], excludes: bool) {
    for actor in actors {
        // Whatever is missing of what is being purged is no damage.
        let is_damage = matches!(&actor.ended, Some(Err(failure)) if failure.class == FailureClass::Integrity);
        assert!(!is_damage, "{}: {:?}", actor.name, actor.ended);
    }
    let purge = &actors[1];
    let then = lock(&world.board).now;
    if excludes && matches!(purge.ended, Some(Ok(()))) {
        world.check_purged(&tenant("acme"), true);
    }
    // Past `settle`: what a run without a lock wrote late is found as well.
    world.set_clock(then + days(3));
    let mut again = [Actor::new("purge again", world.purge(0, tenant("acme"), What::All))];
    world.finish(&mut again);
    // A backup that began anew once the keys were gone is not in the plan, and stays.
    assert!(["done", "new-history"].contains(&&*words(&again)), "{:?}", again[0].ended);
    world.check_purged(&tenant("acme"), false);
    next_night(world);
    world.set_clock(then);
}

/// Three nights of which the first one is over. A chunk that was born in it is needed by the other two.
fn with_expired_nights(excludes: bool) -> World {
    let mut world = with_nights(0, 0, true);
    world.keeps.insert(tenant("acme"), "4 days".parse().unwrap());
    // Each near enough to the one before it to re-use what that has.
    for (night, hours) in [0, 45, 90].into_iter().enumerate() {
        world.set_clock(first_night() + TimeDelta::hours(hours));
        let second = format!("night {night}");
        let mut backup = [Actor::new("a night", world.back_up(0, tenant("acme"), 1, rows(&["one", &second])))];
        world.finish(&mut backup);
        assert_eq!(words(&backup), "done");
    }
    world.set_clock(first_night() + TimeDelta::hours(108));
    lock(&world.board).excludes = excludes;
    world
}

#[test]
fn schedules_of_expire_and_expire() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let world = with_expired_nights(true);
    let start = |world| [0, 1].map(|actor| Actor::new(format!("expire {actor}"), World::expire(world, actor)));
    schedules::walk("expire/expire", &world, start, |actors, ends| {
        *ends.entry(words(actors)).or_default() += 1;
        now(world.check(true));
        let mut again = [Actor::new("expire again", world.expire(0))];
        world.finish(&mut again);
        assert_eq!(words(&again), "done", "{:?}", again[0].ended);
        world.check_expired();
        next_night(&world);
        assert!(!world.model.borrow().outlived.is_empty(), "no chunk outlived the backup that it was born in");
    });
}

#[test]
fn schedules_of_backup_and_expire() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let world = with_expired_nights(true);
    let start = |world| {
        let backup = World::back_up(world, 0, tenant("acme"), 1, rows(&["one", "night 1"]));
        [Actor::new("backup", backup), Actor::new("expire", World::expire(world, 1))]
    };
    schedules::walk("backup/expire", &world, start, |actors, ends| {
        *ends.entry(words(actors)).or_default() += 1;
        assert!(matches!(actors[0].ended, Some(Ok(()))), "{:?}", actors[0].ended);
        now(world.check(true));
        next_night(&world);
    });
}

/// Whatever it is refused or goes on with: what is listed restores.
#[test]
fn schedules_of_backup_and_purge_before() {
    let runtime = runtime();
    let _entered = runtime.enter();
    for excludes in [true, false] {
        let world = with_nights(3, 0, excludes);
        let start = |world| {
            let backup = World::back_up(world, 0, tenant("acme"), 1, rows(&["one", "two"]));
            let before = What::Before(first_night() + days(3));
            [Actor::new("backup", backup), Actor::new("purge --before", World::purge(world, 1, tenant("acme"), before))]
        };
        schedules::walk(&title("backup/purge --before", excludes), &world, start, |actors, ends| {
            *ends.entry(words(actors)).or_default() += 1;
            now(world.check(true));
            next_night(&world);
        });
    }
}
