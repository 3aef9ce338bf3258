//! All schedules of two programs.
//!
//! What two programs do together depends on the order of their calls alone. So every order is tried: at each point where both have a call
//! to make, both go first once. Two points are the same, and tried once, when each program has made the same calls and was given the same
//! answers so far, and the places hold the same objects: then whatever follows is the same too. Ids are random, so they are compared by who
//! brought them up and when; which of two keys has the lower id decides something, so that is part of the point as well. A call that
//! meets no call of the other program, in whatever order, is no point to choose at.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use super::{
    actors::{self, Actor, Event, Fate},
    store::{Answer, LOCKS, Request, lock},
    world::{PLACES, World},
};

/// Replays of one pair unless all are asked for.
const SOME: usize = 120;

/// What was walked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Walked {
    /// Points that differ from all others.
    pub points: usize,
    /// Ends that were reached, each on a schedule of its own.
    pub ends: usize,
    /// Calls, replays included.
    pub calls: usize,
    /// Points at which the other order was not tried.
    pub left: usize,
}

/// A name without what is random in it.
type Plain = (usize, &'static str, String);

/// One schedule as it is walked.
struct Walk<'n> {
    names: HashMap<String, String>,
    fresh: [usize; 2],
    traces: [DefaultHasher; 2],
    content: BTreeMap<(usize, String), String>,
    key_ids: BTreeMap<String, String>,
    taken: [bool; 2],
    backs_up: [bool; 2],
    /// Ids that each has met.
    known: [BTreeSet<String>; 2],
    /// Of `content`, all entries together.
    sum: u64,
    footprints: &'n [BTreeSet<Plain>; 2],
}

fn hash(what: &impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

fn is_id(word: &str) -> bool {
    let hex = |text: &str| text.len() >= 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    hex(word) || word.split_once('-').is_some_and(|(time, random)| time.ends_with('Z') && hex(random))
}

impl Walk<'_> {
    fn name(&mut self, actor: Option<usize>, name: &str) -> String {
        let mut plain = String::new();
        for piece in name.split_inclusive(['/', '.']) {
            let word = piece.trim_end_matches(['/', '.']);
            if !is_id(word) {
                plain.push_str(piece);
                continue;
            }
            // Whoever says it first: it is one tenant's.
            if word.len() == 64 && !name.contains("/c/") && !name.contains("/p/") {
                plain.push_str("tag");
                plain.push_str(&piece[word.len()..]);
                continue;
            }
            let fresh = &mut self.fresh;
            let known = self.names.len();
            let id = self.names.entry(word.to_owned()).or_insert_with(|| match actor {
                Some(actor) => {
                    fresh[actor] += 1;
                    format!("{}{}", ["A", "B"][actor], fresh[actor])
                }
                None => format!("s{known}"),
            });
            if name.starts_with("k/") {
                self.key_ids.insert(word.to_owned(), id.clone());
            }
            plain.push_str(id);
            plain.push_str(&piece[word.len()..]);
        }
        plain
    }

    fn plain(&mut self, actor: usize, place: usize, request: &Request) -> Plain {
        (place, request.verb(), self.name(Some(actor), request.name()))
    }

    fn point(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.traces.iter().for_each(|trace| trace.finish().hash(&mut hasher));
        self.sum.hash(&mut hasher);
        // By value, so their order says which is the lower one.
        self.key_ids.values().collect::<Vec<_>>().hash(&mut hasher);
        hasher.finish()
    }

    /// Whether a call meets nothing that the other program ever does.
    fn is_alone(&self, actor: usize, call: &Plain) -> bool {
        let other = 1 - actor;
        let call = (call.0, call.1, blur(&call.2));
        !self.footprints[other].iter().any(|met| !(met.1 == "take" && self.taken[other]) && meets(&call, met))
    }

    fn note(&mut self, event: &Event<'_>) -> Plain {
        let actor = event.actor;
        let plain = self.plain(actor, event.place, event.request);
        self.known[actor].extend(plain.2.split(['/', '.']).map(str::to_owned));
        let answer = match event.answer {
            Answer::Bytes(_) => self.content.get(&(event.place, plain.2.clone())).cloned().unwrap_or_default(),
            Answer::Head(listed) => listed.is_some().to_string(),
            Answer::Listed(listed, _) => {
                let mut names: Vec<String> = listed.iter().map(|listed| self.name(Some(actor), &listed.name)).collect();
                // A signature means something only beside its document, and then it is asked for by its name.
                names.retain(|name| !name.ends_with(".sig"));
                // Nor does a secret half to whom its key is not known by a record.
                let known = &self.known[actor];
                names.retain(|name| {
                    name.strip_prefix("k/").is_none_or(|id| id.split('.').next().is_some_and(|id| known.contains(id)))
                });
                self.known[actor].extend(names.iter().flat_map(|name| name.split(['/', '.']).map(str::to_owned)));
                names.sort();
                names.join(" ")
            }
            Answer::Folders(folders) => folders.iter().map(|folder| self.name(Some(actor), folder)).collect::<Vec<_>>().join(" "),
            answer => format!("{answer:?}"),
        };
        (&plain, answer).hash(&mut self.traces[actor]);
        // A backup that makes a key, or commits, goes by nothing that it was told before, but for what it says from here on.
        let begins_anew =
            plain.1 == "put" && (plain.2.starts_with("k/") || (plain.2.contains("/b/") && plain.2.ends_with(".sig")));
        if self.backs_up[actor] && begins_anew {
            self.traces[actor] = DefaultHasher::new();
            plain.hash(&mut self.traces[actor]);
        }
        match (event.request, event.answer) {
            (Request::Put(..), Answer::Done) => {
                let writer = format!("{actor} {}", self.traces[actor].finish());
                let object = (event.place, plain.2.clone());
                if let std::collections::btree_map::Entry::Vacant(vacant) = self.content.entry(object.clone()) {
                    self.sum = self.sum.wrapping_add(hash(&(object, &writer)));
                    vacant.insert(writer);
                }
            }
            (Request::Delete(_), Answer::Done) => {
                let object = (event.place, plain.2.clone());
                if let Some(writer) = self.content.remove(&object) {
                    self.sum = self.sum.wrapping_sub(hash(&(object, &writer)));
                }
            }
            (Request::Take(_), _) => self.taken[actor] = true,
            _ => {}
        }
        plain
    }
}

/// Whether two calls may not change places: one writes what the other one reads, lists or writes.
fn meets(a: &Plain, b: &Plain) -> bool {
    // A lock is given back with no call of its own: who takes one may meet anything.
    if a.1 == "take" || b.1 == "take" {
        return true;
    }
    if a.0 != b.0 || a.0 == LOCKS {
        return false;
    }
    let writes = |call: &Plain| matches!(call.1, "put" | "delete" | "extend lock");
    let covers = |lists: &Plain, name: &str| matches!(lists.1, "list" | "folders") && name.starts_with(&lists.2);
    (writes(a) || writes(b)) && (a.2 == b.2 || covers(a, &b.2) || covers(b, &a.2))
}

/// Ids that a program brought up stand for each other.
fn blur(name: &str) -> String {
    let fresh = |word: &str| {
        let mut bytes = word.bytes();
        matches!(bytes.next(), Some(b'A' | b'B')) && word.len() > 1 && bytes.all(|b| b.is_ascii_digit())
    };
    let blurred = name.split_inclusive(['/', '.']).map(|piece| {
        let word = piece.trim_end_matches(['/', '.']);
        if fresh(word) { piece.replacen(&word[1..], "", 1) } else { piece.to_owned() }
    });
    blurred.collect()
}

/// Where to go on: the programs that went first so far, who does now, and the point that it must be.
struct Branch {
    path: Vec<usize>,
    first: Option<usize>,
    point: Option<u64>,
    /// Who need not go next after that: both orders come to the same, and the other one is walked already.
    asleep: [bool; 2],
    /// The keys that there are, in the order of their ids.
    keys: Vec<String>,
    /// How often other keys came of it.
    misses: usize,
}

/// Walks all schedules of two programs from `world` as it is, and looks at each end.
///
/// # Panics
/// With the schedule, when `look` panics or when replays of one schedule differ for another reason than random ids.
pub fn walk<'w>(
    what: &str,
    world: &'w World,
    start: impl Fn(&'w World) -> [Actor<'w>; 2],
    look: impl Fn(&[Actor<'w>], &mut BTreeMap<String, usize>),
) -> Walked {
    let saved = world.save();
    let mut footprints: [BTreeSet<Plain>; 2] = Default::default();
    loop {
        let known = footprints.clone();
        let (walked, ends) = walk_once(what, world, &saved, &known, &mut footprints, &start, &look);
        // What a program may meet is known when a walk meets nothing new.
        if known == footprints {
            world.put_back(&saved);
            let Walked { points, ends: count, calls, left } = walked;
            let all = if left == 0 { "all".to_owned() } else { format!("not all, {left} begun: TENURE_TEST_SCHEDULES=all") };
            eprintln!("schedules of {what}: {all}; {points} points, {count} ends, {calls} calls; {ends:?}");
            assert!(points > 0 && count > 1, "{what}: nothing was walked");
            return walked;
        }
    }
}

fn walk_once<'w>(
    what: &str,
    world: &'w World,
    saved: &(Vec<BTreeMap<String, super::store::Object>>, super::world::Model),
    known: &[BTreeSet<Plain>; 2],
    met: &mut [BTreeSet<Plain>; 2],
    start: &impl Fn(&'w World) -> [Actor<'w>; 2],
    look: &impl Fn(&[Actor<'w>], &mut BTreeMap<String, usize>),
) -> (Walked, BTreeMap<String, usize>) {
    let mut walked = Walked::default();
    let mut ends = BTreeMap::new();
    let mut seen: HashMap<u64, [bool; 2]> = HashMap::new();
    let began = std::time::Instant::now();
    let mut replays = 0;
    let mut branches =
        vec![Branch { path: Vec::new(), first: None, point: None, asleep: [false; 2], keys: Vec::new(), misses: 0 }];
    // The first walk only learns what the programs meet: one schedule of each order is enough.
    let learning = known.iter().all(BTreeSet::is_empty);
    // Evenly over all of them where not all are walked.
    let limit = if super::every_schedule() { usize::MAX } else { SOME };
    let next = |branches: &mut Vec<Branch>, replays: usize| {
        let last = branches.len().checked_sub(1)?;
        let at = if limit == usize::MAX { last } else { replays.wrapping_mul(7_919) % branches.len() };
        Some(branches.swap_remove(at))
    };
    while let Some(mut branch) = next(&mut branches, replays).filter(|_| replays < limit) {
        world.put_back(saved);
        world.forgets.borrow_mut().clear();
        let mut state = Walk {
            names: HashMap::new(),
            fresh: [0; 2],
            traces: Default::default(),
            content: BTreeMap::new(),
            key_ids: BTreeMap::new(),
            taken: [false; 2],
            backs_up: [false; 2],
            known: Default::default(),
            sum: 0,
            footprints: known,
        };
        for (place, objects) in saved.0.iter().enumerate() {
            let mut names: Vec<_> = objects.iter().collect();
            names.sort_by_key(|(_, object)| object.born);
            for (name, _) in names {
                let plain = state.name(None, name);
                state.content.insert((place, plain), "setup".to_owned());
            }
        }
        let mut actors = start(world);
        state.backs_up = [0, 1].map(|n| actors[n].name.starts_with("backup"));
        let state = std::cell::RefCell::new(state);
        let mut path: Vec<usize> = Vec::new();
        let (mut missed, mut merged, mut asleep) = (false, false, [false; 2]);
        replays += 1;
        if replays % 1000 == 0 {
            eprintln!("schedules of {what}: {replays} replays, {} points, {:?}", seen.len(), began.elapsed());
        }
        let mut trace = Vec::new();
        let lines = std::cell::RefCell::new(Vec::new());
        let names: Vec<String> = actors.iter().map(|actor| actor.name.clone()).collect();
        actors::run(
            &world.board,
            &mut actors,
            |_| {
                let board = lock(&world.board);
                let mut state = state.borrow_mut();
                for (actor, rest) in world.forgets.borrow_mut().drain(..) {
                    let rest = state.name(Some(actor), &rest);
                    state.traces[actor] = DefaultHasher::new();
                    rest.hash(&mut state.traces[actor]);
                }
                let mut next: [Option<(Plain, u64)>; 2] = [None, None];
                for waiting in board.open() {
                    let plain = state.plain(waiting.actor, waiting.place, &waiting.request);
                    let best = &mut next[waiting.actor];
                    if best.as_ref().is_none_or(|(other, _)| plain < *other) {
                        *best = Some((plain, waiting.ticket));
                    }
                }
                let step = path.len();
                let choice = if let Some(choice) = branch.path.get(step) {
                    // Which of two keys has the lower id is chance: once more, then.
                    let mut known = branch.keys.iter();
                    if !state.key_ids.values().all(|key| known.any(|other| other == key)) {
                        missed = true;
                        return None;
                    }
                    *choice
                } else {
                    let point = state.point();
                    if let Some(first) = branch.first.filter(|_| step == branch.path.len()) {
                        if branch.point != Some(point) {
                            missed = true;
                            return None;
                        }
                        asleep = branch.asleep;
                        first
                    } else {
                        let goes = match &next {
                            [Some(_), None] => [true, false],
                            [None, _] => [false, true],
                            [Some((a, _)), Some((b, _))] => {
                                let first_alone = learning || state.is_alone(0, a);
                                [first_alone || !state.is_alone(1, b), !first_alone]
                            }
                        };
                        let before = seen.get(&point).copied();
                        let todo = [0, 1].map(|n| goes[n] && !asleep[n] && before.is_none_or(|before| before[n]));
                        seen.insert(point, [0, 1].map(|n| asleep[n] && before.is_none_or(|before| before[n])));
                        let apart = |next: &[Option<(Plain, u64)>; 2]| match next {
                            [Some((a, _)), Some((b, _))] => !meets(a, b),
                            _ => false,
                        };
                        let choice = match todo {
                            [false, false] => {
                                merged = true;
                                return None;
                            }
                            [false, true] => 1,
                            [true, second] => {
                                if second {
                                    let keys = state.key_ids.values().cloned().collect();
                                    let (path, asleep) = (path.clone(), [apart(&next), false]);
                                    branches.push(Branch { path, first: Some(1), point: Some(point), asleep, keys, misses: 0 });
                                }
                                0
                            }
                        };
                        let other = 1 - choice;
                        asleep = if other == 0 { [asleep[0] && apart(&next), false] } else { [false, asleep[1] && apart(&next)] };
                        choice
                    }
                };
                let Some((_, ticket)) = next[choice].clone() else {
                    missed = true;
                    return None;
                };
                path.push(choice);
                Some((ticket, Fate::Done))
            },
            |event| {
                let plain = state.borrow_mut().note(event);
                walked.calls += 1;
                let place = if event.place == LOCKS { "lock" } else { PLACES[event.place] };
                lines.borrow_mut().push(format!(
                    "{}: {} {place} {} -> {:?}",
                    names[event.actor],
                    plain.1,
                    plain.2,
                    short(event.answer)
                ));
                met[event.actor].insert((plain.0, plain.1, blur(&plain.2)));
                world.watch(event);
            },
        );
        trace.extend(lines.into_inner());
        if missed {
            branch.misses += 1;
            assert!(branch.misses < 100, "{what}: replays differ; the last:\n{}", trace.join("\n"));
            branches.push(branch);
            continue;
        }
        if merged {
            continue;
        }
        walked.ends += 1;
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| look(&actors, &mut ends)));
        if let Err(panic) = looked {
            eprintln!("schedules of {what}: after\n{}", trace.join("\n"));
            for actor in &actors {
                eprintln!("{}: {:?}", actor.name, actor.ended);
            }
            std::panic::resume_unwind(panic);
        }
    }
    walked.points = seen.len();
    walked.left = branches.len();
    (walked, ends)
}

fn short(answer: &Answer) -> String {
    match answer {
        Answer::Bytes(bytes) => format!("{} bytes", bytes.len()),
        Answer::Listed(listed, _) => format!("{} objects", listed.len()),
        Answer::Head(listed) => if listed.is_some() { "there" } else { "not there" }.to_owned(),
        answer => format!("{answer:?}"),
    }
}
