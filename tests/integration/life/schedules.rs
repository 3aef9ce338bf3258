//! All schedules of two programs.
//!
//! What two programs do together depends on the order of their calls alone. So every order is tried that can make a difference; those that
//! come to the same are walked once. Four reasons let two orders come to the same, and no other is used:
//!
//! 1. *Points.* Two points are the same when each program has made the same calls and was given the same answers so far, waits with the same
//!    calls, and the places hold the same objects: whatever follows is the same then. Ids are random, so they are compared by who brought
//!    them up and when; which of two keys has the lower id decides something, so that is part of the point as well. Where both
//!    programs make keys, each order of their ids is walked.
//! 2. *Calls that do not meet* ([`meets`]) come to the same in either order: where both orders of two such calls are open, one is walked (a
//!    sleep set: who need not go next, because the other order of the same two is walked already).
//! 3. *Nothing to meet.* Where the next call of one program meets nothing that the other one may do from there on, it alone goes next (a
//!    persistent set). What a program may do is what it was seen to do after exactly this history of calls and answers, however either went
//!    on. That is known only in the end; so each decision is kept, and taken back when more is seen. At the end each holds: were there a run
//!    of the other program from that point with a call that does meet, then take the first such call. What comes before it does not meet
//!    ours, so it happens in the same way after ours; the walk went on from there, and has seen that call.
//! 4. *What a program has forgotten.* A backup and a purge go on from certain points by what they have found out, not by
//!    how: see [`World::forgets`] and [`Emptying`]. And nobody goes by what a purge's marks and records count: see [`says`].
//!
//! Calls that one program makes at a time take place in the order of their names: orders inside one program are not walked.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use serde_json::Value;
use tenure::id::Sha256Digest;

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
    /// Those that were looked at: of ends with the same objects and the same outcomes one.
    pub looked: usize,
    /// Schedules that were begun from the first call.
    pub replays: usize,
    /// Calls, replays included.
    pub calls: usize,
    /// Points at which the other order was not tried.
    pub left: usize,
}

/// A name without what is random in it.
type Plain = (usize, &'static str, String);

/// One schedule as it is walked.
struct Walk {
    names: HashMap<String, String>,
    fresh: [usize; 2],
    traces: [DefaultHasher; 2],
    content: BTreeMap<(usize, String), String>,
    key_ids: BTreeMap<String, String>,
    backs_up: [bool; 2],
    /// What each found out before it forgot the rest.
    found_out: [String; 2],
    /// Ids that each has met.
    known: [BTreeSet<String>; 2],
    purges: [bool; 2],
    /// Which of them empties lockers.
    empties: [Option<Emptying>; 2],
    /// Of `content`, all entries together.
    sum: u64,
}

/// A purge that empties its lockers, from one listing to the next. A pass lists a locker's manifests, then what is left, then what is left
/// still, and removes what it was shown; after one that removed nothing the locker is empty. All that a purge keeps at each of these listings
/// is how many passes it made over the locker, whether this one has removed anything, what became of the lockers before it, and whether it
/// has the tenant's lock; how many objects it removed it only says.
#[derive(Default)]
struct Emptying {
    /// What it was told when it took the tenant's lock, and how it went with earlier lockers.
    before: String,
    locker: String,
    passes: usize,
    listings: usize,
    has_removed: bool,
    /// It does something else, or something could not be removed: from here on all counts.
    is_over: bool,
}

impl Emptying {
    /// Takes note of its next call. Gives what it goes by from there on, when that is not all that it was told.
    fn goes_by(&mut self, (place, verb, name): &Plain, answer: &str) -> Option<String> {
        if *verb == "take" {
            self.before.push_str(answer);
        }
        let in_vault = name.strip_prefix("t/").filter(|_| *place == 0);
        let (locker, folder) = in_vault.and_then(|rest| rest.split_once('/')).unwrap_or_default();
        let is_own = !locker.is_empty() && locker == self.locker;
        match (*verb, folder) {
            ("list", "b/") => {
                if locker != self.locker {
                    self.before.push_str(&format!(" {} {} {}", self.locker, self.passes, self.has_removed));
                    locker.clone_into(&mut self.locker);
                    self.passes = 0;
                }
                (self.passes, self.listings, self.has_removed) = (self.passes + 1, 0, false);
            }
            ("list", "") if is_own => self.listings += 1,
            ("delete", _) if is_own && answer == "Done" => {
                self.has_removed = true;
                return None;
            }
            _ => {
                self.is_over |= self.passes > 0;
                return None;
            }
        }
        let Self { before, locker, passes, listings, has_removed, is_over } = &*self;
        let shows_nothing = answer.split_whitespace().all(|name| name.contains("/gone/"));
        match (is_over, listings, shows_nothing && !has_removed) {
            (true, ..) => None,
            (false, 2, true) => Some(format!("{before} {locker} is empty")),
            _ => Some(format!("{before} {locker} {passes} {listings} {has_removed} {answer}")),
        }
    }
}

/// What a document of a purge says to anybody who goes by it: all but how many objects there were, and which backups a record counts.
fn says(names: &HashMap<String, String>, name: &str, bytes: &[u8]) -> String {
    fn strip(value: &mut Value, names: &HashMap<String, String>, is_record: bool) {
        match value {
            Value::Object(members) => {
                let is_count = |member: &str| matches!(member, "objects" | "bytes") || (is_record && member == "backups");
                members.retain(|member, _| !is_count(member));
                members.values_mut().for_each(|value| strip(value, names, is_record));
            }
            Value::Array(values) => values.iter_mut().for_each(|value| strip(value, names, is_record)),
            Value::String(word) => {
                if let Some(plain) = names.get(word) {
                    word.clone_from(plain);
                }
            }
            _ => {}
        }
    }
    let mut value: Value = serde_json::from_slice(bytes).expect("a document");
    strip(&mut value, names, name.starts_with("runs/"));
    value.to_string()
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

impl Walk {
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

    fn point(&self, waiting: &[BTreeSet<Plain>; 2]) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.traces.iter().for_each(|trace| trace.finish().hash(&mut hasher));
        waiting.hash(&mut hasher);
        self.sum.hash(&mut hasher);
        // By value, so their order says which is the lower one.
        self.key_ids.values().collect::<Vec<_>>().hash(&mut hasher);
        hasher.finish()
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
                // In these folders a signature means something only beside its document, and then it is asked for by its name.
                let prefix = &plain.2;
                if prefix.ends_with("/s/") || prefix == "plans/" {
                    names.retain(|name| !name.ends_with(".sig"));
                }
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
        (&plain, &answer).hash(&mut self.traces[actor]);
        // A backup that makes a key, commits or calls itself void goes by nothing that it was told before, but for what it says from here on:
        // of a void backup why it is one.
        let begins_anew = plain.1 == "put"
            && (plain.2.starts_with("k/")
                || (plain.2.contains("/b/") && [".json.sig", ".void"].iter().any(|end| plain.2.ends_with(end))));
        if self.backs_up[actor] && begins_anew {
            let reason = match event.request {
                Request::Put(_, bytes, ..) if plain.2.ends_with(".void") => Some(says(&self.names, &plain.2, bytes)),
                _ => None,
            };
            self.traces[actor] = DefaultHasher::new();
            (&self.found_out[actor], &plain, reason).hash(&mut self.traces[actor]);
        }
        let goes_by = self.empties[actor].as_mut().and_then(|emptying| emptying.goes_by(&plain, &answer));
        if let Some(goes_by) = goes_by {
            self.traces[actor] = DefaultHasher::new();
            (&self.found_out[actor], goes_by).hash(&mut self.traces[actor]);
        }
        match (event.request, event.answer) {
            (Request::Put(_, bytes, ..), Answer::Done) => {
                let is_of_purge = self.purges[actor] && ["plans/", "runs/"].iter().any(|folder| plain.2.starts_with(folder));
                let is_void = self.backs_up[actor] && plain.2.ends_with(".void.sig");
                let writer = match (is_of_purge || is_void, plain.2.ends_with(".sig")) {
                    (false, _) => format!("{actor} {}", self.traces[actor].finish()),
                    // It says what its document does, which the same program writes next.
                    (true, true) => format!("{actor} signed"),
                    (true, false) => {
                        let says = says(&self.names, &plain.2, bytes);
                        self.names.insert(Sha256Digest::of(bytes).to_string(), format!("SHA-256 of {}", plain.2));
                        format!("{actor} {says}")
                    }
                };
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
            _ => {}
        }
        plain
    }
}

/// Whether two calls may not change places: one writes what the other one reads, lists or writes. Of a tenant's lock see [`Futures`].
fn meets(a: &Plain, b: &Plain) -> bool {
    if a.0 == LOCKS || b.0 == LOCKS {
        return a.1 == "take" && b.1 == "take";
    }
    if a.0 != b.0 {
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

/// A set of calls, by their numbers.
#[derive(Debug, Clone, Default)]
struct Calls(Vec<u64>);

impl Calls {
    fn insert(&mut self, n: usize) {
        if self.0.len() <= n / 64 {
            self.0.resize(n / 64 + 1, 0);
        }
        self.0[n / 64] |= 1 << (n % 64);
    }

    /// Takes in another set; whether that was news.
    fn extend(&mut self, other: &Self) -> bool {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        let mut news = false;
        for (bits, more) in self.0.iter_mut().zip(&other.0) {
            news |= *more & !*bits != 0;
            *bits |= more;
        }
        news
    }

    fn has_any_of(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }
}

/// What one program may do from some history of it on.
#[derive(Default)]
struct Future {
    after: Calls,
    /// The histories that this one continues.
    before: Vec<usize>,
    /// Branches that were not begun because none of this meets the other program's call, by their numbers.
    spared: Vec<usize>,
}

/// What is known of both programs' ways.
#[derive(Default)]
struct Futures {
    numbers: HashMap<Plain, usize>,
    /// For each call, those that it meets. Ids that a program brought up stand for each other.
    meets: Vec<Calls>,
    /// All calls that take a tenant's lock.
    takes: Calls,
    by_history: HashMap<(usize, u64), usize>,
    all: Vec<Future>,
}

impl Futures {
    fn call(&mut self, call: &Plain) -> usize {
        let call = (call.0, call.1, blur(&call.2));
        if let Some(number) = self.numbers.get(&call) {
            return *number;
        }
        let number = self.numbers.len();
        let mut met = Calls::default();
        for (other, n) in &self.numbers {
            if meets(&call, other) {
                met.insert(*n);
                self.meets[*n].insert(number);
            }
        }
        if meets(&call, &call) {
            met.insert(number);
        }
        if call.1 == "take" {
            self.takes.insert(number);
        }
        self.meets.push(met);
        self.numbers.insert(call, number);
        number
    }

    /// What is known of a program that waits with these calls after this history, which continues another one. Gives the branches that
    /// are to be begun after all.
    fn waits(&mut self, actor: usize, history: u64, calls: &BTreeSet<Plain>, before: Option<usize>) -> (usize, Vec<usize>) {
        let mut after = Calls::default();
        for call in calls {
            after.insert(self.call(call));
        }
        let all = &mut self.all;
        let future = *self.by_history.entry((actor, history)).or_insert_with(|| {
            all.push(Future::default());
            all.len() - 1
        });
        let mut news = Vec::new();
        if let Some(before) = before
            && before != future
            && !self.all[future].before.contains(&before)
        {
            self.all[future].before.push(before);
            news.push((before, self.all[future].after.clone()));
        }
        news.push((future, after));
        let mut woken = Vec::new();
        while let Some((future, more)) = news.pop() {
            if self.all[future].after.extend(&more) {
                let Future { after, before, spared } = &mut self.all[future];
                woken.append(spared);
                news.extend(before.iter().map(|before| (*before, after.clone())));
            }
        }
        (future, woken)
    }

    /// Whether a call of the other program meets nothing of what may follow, as far as that is known.
    fn is_apart(&self, future: usize, call: Next) -> bool {
        let after = &self.all[future].after;
        !(call.meets && after.has_any_of(&self.meets[call.number]) || call.meets_takes && after.has_any_of(&self.takes))
    }
}

/// A call that would be next.
#[derive(Clone, Copy)]
struct Next {
    number: usize,
    /// Whether there is anything that it meets: taking a lock that keeps nobody out meets nothing.
    meets: bool,
    /// Whether it may be the one after which its program gives the lock back.
    meets_takes: bool,
    /// Whether it takes the lock that the other program has.
    waits: bool,
}

/// Whether each of the programs made one of these keys.
fn brought_by_both(keys: &[String]) -> bool {
    ["A", "B"].iter().all(|who| keys.iter().any(|key| key.starts_with(who)))
}

/// Where to go on: the programs that went first so far, who does now, and the point that it must be.
#[derive(Clone)]
struct Branch {
    path: Vec<u8>,
    first: Option<u8>,
    point: Option<u64>,
    /// Who need not go next after that: both orders come to the same, and the other one is walked already.
    asleep: [bool; 2],
    /// The keys that there are, in the order of their ids.
    keys: Vec<String>,
    /// How often other keys came of it.
    misses: usize,
}

/// A branch that need not be begun while the program that would go first does nothing that meets the other one's call.
struct Spared {
    branch: Branch,
    future: usize,
    call: Next,
}

/// All that is known while a pair is walked.
#[derive(Default)]
struct Known {
    /// Points, and who was asleep there and never went next.
    seen: HashMap<u64, [bool; 2]>,
    ends: HashSet<u64>,
    branches: Vec<Branch>,
    spared: Vec<Option<Spared>>,
    futures: Futures,
}

impl Known {
    /// Looks again at branches that were spared.
    fn wake(&mut self, woken: Vec<usize>) {
        for n in woken {
            let Some(&Spared { future, call, .. }) = self.spared[n].as_ref() else { continue };
            if self.futures.is_apart(future, call) {
                self.futures.all[future].spared.push(n);
            } else if let Some(spared) = self.spared[n].take() {
                self.branches.push(spared.branch);
            }
        }
    }

    fn spare(&mut self, branch: Branch, future: usize, call: Next) {
        self.futures.all[future].spared.push(self.spared.len());
        self.spared.push(Some(Spared { branch, future, call }));
    }
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
    walk_as(what, world, How { reduces: true, merges: true, all: super::every_schedule() }, start, look).0
}

/// How to walk.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// Whether only one is walked of orders of calls that do not meet; otherwise every order is, from every point.
    pub reduces: bool,
    /// Whether points that are the same are walked once; otherwise every way to them is, and whatever goes first must lead to the same
    /// point from each.
    pub merges: bool,
    /// Whether to the end.
    pub all: bool,
}

/// The same; also gives the ends: of each the objects that are there, and how the programs ended.
///
/// # Panics
/// As [`walk`].
pub fn walk_as<'w>(
    what: &str,
    world: &'w World,
    How { reduces, merges, all }: How,
    start: impl Fn(&'w World) -> [Actor<'w>; 2],
    look: impl Fn(&[Actor<'w>], &mut BTreeMap<String, usize>),
) -> (Walked, BTreeSet<String>) {
    let saved = world.save();
    let mut walked = Walked::default();
    let mut ends = BTreeMap::new();
    let mut all_ends = BTreeSet::new();
    // Where it led to who went first at a point, and by which call.
    let leads = std::cell::RefCell::new(HashMap::<(u64, u8), (u64, String)>::new());
    let leads_to = |from: (u64, u8), to: u64, lines: &[String]| {
        let mut leads = leads.borrow_mut();
        let call = lines.last().cloned().unwrap_or_default();
        let (before, by) = leads.entry(from).or_insert_with(|| (to, call.clone()));
        assert!(*before == to, "{what}: {by} led elsewhere from the same point after\n{}", lines.join("\n"));
    };
    let began = std::time::Instant::now();
    let first = Branch { path: Vec::new(), first: None, point: None, asleep: [false; 2], keys: Vec::new(), misses: 0 };
    let known = std::cell::RefCell::new(Known { branches: vec![first], ..Known::default() });
    let excludes = lock(&world.board).excludes;
    // Evenly over all of them where not all are walked.
    let limit = if all { usize::MAX } else { SOME };
    let next = |replays: usize| {
        let branches = &mut known.borrow_mut().branches;
        let last = branches.len().checked_sub(1)?;
        let at = if limit == usize::MAX { last } else { replays.wrapping_mul(7_919) % branches.len() };
        Some(branches.swap_remove(at))
    };
    while walked.replays < limit {
        let Some(mut branch) = next(walked.replays) else { break };
        world.put_back(&saved);
        world.forgets.lock().unwrap().clear();
        let mut state = Walk {
            names: HashMap::new(),
            fresh: [0; 2],
            traces: Default::default(),
            content: BTreeMap::new(),
            key_ids: BTreeMap::new(),
            backs_up: [false; 2],
            found_out: Default::default(),
            known: Default::default(),
            purges: [false; 2],
            empties: Default::default(),
            sum: 0,
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
        state.purges = [0, 1].map(|n| actors[n].name == "purge");
        let state = std::cell::RefCell::new(state);
        let mut path: Vec<u8> = Vec::new();
        let mut keys_before: Vec<String> = Vec::new();
        let (mut missed, mut merged, mut asleep) = (false, false, [false; 2]);
        // Where each program is, among the futures, while it waits.
        let mut at: [Option<usize>; 2] = [None; 2];
        walked.replays += 1;
        if walked.replays % 1000 == 0 {
            let known = known.borrow();
            let (points, open) = (known.seen.len(), known.branches.len());
            eprintln!("schedules of {what}: {} replays, {points} points, {open} open, {:?}", walked.replays, began.elapsed());
        }
        let mut trace = Vec::new();
        let lines = std::cell::RefCell::new(Vec::new());
        // The point before this one, and who went first there.
        let mut from: Option<(u64, u8)> = None;
        let names: Vec<String> = actors.iter().map(|actor| actor.name.clone()).collect();
        actors::run(
            &world.board,
            &mut actors,
            |_| {
                let board = lock(&world.board);
                let mut state = state.borrow_mut();
                for (actor, rest) in world.forgets.lock().unwrap().drain(..) {
                    let rest = state.name(Some(actor), &rest);
                    state.traces[actor] = DefaultHasher::new();
                    rest.hash(&mut state.traces[actor]);
                    let empties = ["removing/", "looking again/"].iter().any(|stage| rest.starts_with(stage));
                    state.empties[actor] = (empties && state.purges[actor]).then(Emptying::default);
                    state.found_out[actor] = rest;
                }
                let mut waiting: [BTreeSet<Plain>; 2] = Default::default();
                let mut tickets = [0, 0];
                for call in board.open() {
                    let plain = state.plain(call.actor, call.place, &call.request);
                    if waiting[call.actor].first().is_none_or(|first| plain < *first) {
                        tickets[call.actor] = call.ticket;
                    }
                    waiting[call.actor].insert(plain);
                }
                let holds = [0, 1].map(|actor| excludes && board.held.values().any(|holders| holders.contains(&actor)));
                let known = &mut *known.borrow_mut();
                for actor in [0, 1] {
                    if waiting[actor].is_empty() {
                        at[actor] = None;
                        continue;
                    }
                    let history = state.traces[actor].finish();
                    let (now, woken) = known.futures.waits(actor, history, &waiting[actor], at[actor]);
                    at[actor] = Some(now);
                    known.wake(woken);
                }
                let step = path.len();
                let keys: Vec<String> = state.key_ids.values().cloned().collect();
                let is_new = step > branch.path.len() || step == 0;
                if let Some(new) = keys.iter().find(|key| !keys_before.contains(key)).filter(|_| is_new && brought_by_both(&keys))
                {
                    // Both made one: which has the lower id is chance, and each of it is walked.
                    let others: Vec<&String> = keys.iter().filter(|key| *key != new).collect();
                    for at in (0..keys.len()).filter(|at| keys[*at] != *new) {
                        let mut keys: Vec<String> = others.iter().copied().cloned().collect();
                        keys.insert(at, new.clone());
                        let (path, asleep) = (path.clone(), [false; 2]);
                        known.branches.push(Branch { path, first: None, point: None, asleep, keys, misses: 0 });
                    }
                }
                if branch.first.is_none() && step == branch.path.len() && step > 0 && keys != branch.keys {
                    missed = true;
                    return None;
                }
                let point = state.point(&waiting);
                // Which id a new key has is chance.
                if let Some(from) = from.take().filter(|_| !merges && keys == keys_before) {
                    leads_to(from, point, &lines.borrow());
                }
                keys_before.clone_from(&keys);
                let choice = if let Some(choice) = branch.path.get(step) {
                    // Which of two keys has the lower id is chance: once more, then.
                    let mut wanted = branch.keys.iter();
                    if !keys.iter().all(|key| wanted.any(|other| other == key)) {
                        missed = true;
                        return None;
                    }
                    *choice
                } else {
                    let next = [waiting[0].first(), waiting[1].first()];
                    // The lock is given back with no call of its own: whoever has it may do so after any.
                    let apart = match next {
                        [Some(a), Some(b)] => {
                            let of_lock = (a.1 == "take" && holds[1]) || (b.1 == "take" && holds[0]);
                            reduces && !of_lock && (!meets(a, b) || (a.0 == LOCKS && !excludes))
                        }
                        _ => false,
                    };
                    if let Some(first) = branch.first.filter(|_| step == branch.path.len()) {
                        if branch.point != Some(point) {
                            missed = true;
                            return None;
                        }
                        asleep = branch.asleep;
                        first
                    } else {
                        let calls = [0, 1].map(|n: usize| {
                            next[n].map(|call| {
                                let takes = call.1 == "take";
                                Next {
                                    number: known.futures.call(call),
                                    meets: excludes || !takes,
                                    meets_takes: holds[n],
                                    waits: takes && holds[1 - n],
                                }
                            })
                        });
                        let is_alone = |n: usize| match (calls[n], at[1 - n]) {
                            (Some(call), Some(other)) => reduces && !call.waits && known.futures.is_apart(other, call),
                            _ => false,
                        };
                        let goes = match next {
                            [_, None] => [true, false],
                            [None, _] => [false, true],
                            _ => {
                                let first_alone = is_alone(0);
                                [first_alone || !is_alone(1), !first_alone]
                            }
                        };
                        let seen = if merges { point } else { hash(&path) };
                        let before = known.seen.get(&seen).copied();
                        let wanted = [0, 1].map(|n| !asleep[n] && before.is_none_or(|before| before[n]));
                        let todo = [0, 1].map(|n| goes[n] && wanted[n]);
                        known.seen.insert(seen, [0, 1].map(|n| asleep[n] && before.is_none_or(|before| before[n])));
                        let new = |first: usize| {
                            let mut asleep = [false; 2];
                            asleep[1 - first] = apart;
                            let (path, keys) = (path.clone(), keys.clone());
                            Branch { path, first: Some(first as u8), point: Some(point), asleep, keys, misses: 0 }
                        };
                        for n in [0, 1] {
                            if let (false, true, Some(future), Some(call)) = (goes[n], wanted[n], at[n], calls[1 - n]) {
                                known.spare(new(n), future, call);
                            }
                        }
                        let choice = match todo {
                            [false, false] => {
                                merged = true;
                                return None;
                            }
                            [false, true] => 1,
                            [true, second] => {
                                if second {
                                    known.branches.push(new(1));
                                }
                                0
                            }
                        };
                        let other = 1 - usize::from(choice);
                        asleep = if other == 0 { [asleep[0] && apart, false] } else { [false, asleep[1] && apart] };
                        choice
                    }
                };
                if waiting[usize::from(choice)].is_empty() {
                    missed = true;
                    return None;
                }
                path.push(choice);
                from = Some((point, choice));
                Some((tickets[usize::from(choice)], Fate::Done))
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
                world.watch(event);
            },
        );
        trace.extend(lines.into_inner());
        if missed {
            branch.misses += 1;
            assert!(branch.misses < 100, "{what}: replays differ; the last:\n{}", trace.join("\n"));
            known.borrow_mut().branches.push(branch);
            continue;
        }
        if merged {
            continue;
        }
        walked.ends += 1;
        let state = state.into_inner();
        let keys: Vec<&String> = state.key_ids.values().collect();
        if let Some(from) = from.filter(|_| !merges && keys.iter().copied().eq(&keys_before)) {
            leads_to(from, hash(&(state.sum, super::words(&actors))), &trace);
        }
        let objects: BTreeSet<String> = state.content.keys().map(|(place, name)| format!("{place} {}", blur(name))).collect();
        all_ends.insert(format!("{}: {objects:?}", super::words(&actors)));
        if !known.borrow_mut().ends.insert(hash(&(state.sum, keys, super::words(&actors)))) {
            continue;
        }
        walked.looked += 1;
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| look(&actors, &mut ends)));
        if let Err(panic) = looked {
            eprintln!("schedules of {what}: after\n{}", trace.join("\n"));
            for actor in &actors {
                eprintln!("{}: {:?}", actor.name, actor.ended);
            }
            std::panic::resume_unwind(panic);
        }
    }
    world.put_back(&saved);
    let known = known.into_inner();
    walked.points = known.seen.len();
    walked.left = known.branches.len();
    let whether =
        if walked.left == 0 { "all".to_owned() } else { format!("not all, {} begun: TENURE_TEST_SCHEDULES=all", walked.left) };
    let Walked { points, ends: count, looked, replays, calls, .. } = walked;
    eprintln!(
        "schedules of {what}: {whether}; {points} points, {count} ends, {looked} of them looked at, {replays} replays, {calls} calls, {:.0?}; {ends:?}",
        began.elapsed()
    );
    assert!(points > 0 && count > 0, "{what}: nothing was walked");
    (walked, all_ends)
}

fn short(answer: &Answer) -> String {
    match answer {
        Answer::Bytes(bytes) => format!("{} bytes", bytes.len()),
        Answer::Listed(listed, _) => format!("{} objects", listed.len()),
        Answer::Head(listed) => if listed.is_some() { "there" } else { "not there" }.to_owned(),
        answer => format!("{answer:?}"),
    }
}
