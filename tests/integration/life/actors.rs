//! Runs actors side by side, one call at a time.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::Thread,
    time::{Duration, Instant},
};

use tenure::{operation::failure::Failure, store::StoreErrorKind};

use super::store::{Answer, LOCKS, Request, Shared, lock};

/// How an actor ends; `None` if it was killed.
pub type Ended = Option<Result<(), Failure>>;

type Work<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>>;

/// One program at work.
pub struct Actor<'a> {
    pub name: String,
    future: Option<Work<'a>>,
    pub ended: Ended,
}

impl<'a> Actor<'a> {
    pub fn new(name: impl Into<String>, future: impl Future<Output = Result<(), Failure>> + 'a) -> Self {
        Self { name: name.into(), future: Some(Box::pin(future)), ended: None }
    }

    pub fn is_at_work(&self) -> bool {
        self.future.is_some()
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It takes place.
    Done,
    /// It does not.
    Refused(StoreErrorKind),
    /// It takes place, and its answer is lost.
    Lost,
    /// The same, but that it takes place later.
    Late,
    /// Who made it dies before it takes place.
    DiesBefore,
    /// … right after.
    DiesAfter,
}

struct Alarm {
    thread: Thread,
    rang: AtomicBool,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.rang.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// Longer than any computation of an actor.
const PATIENCE: Duration = Duration::from_secs(120);

/// A call that took place, or did not.
pub struct Event<'a> {
    pub actor: usize,
    pub place: usize,
    pub request: &'a Request,
    pub fate: Fate,
    /// As the actor is told it; as it was where the answer is lost.
    pub answer: &'a Answer,
}

/// Runs all actors until each has ended. `choose` picks one of the calls that wait, by its place among [`super::store::Board::open`], and its
/// fate; `None` stops here and kills all. `after` is told of each call, when it took place and before anybody goes on.
pub fn run(
    board: &Shared,
    actors: &mut [Actor<'_>],
    mut choose: impl FnMut(&[Actor<'_>]) -> Option<(u64, Fate)>,
    mut after: impl FnMut(&Event<'_>),
) {
    let alarm = Arc::new(Alarm { thread: std::thread::current(), rang: AtomicBool::new(false) });
    let waker = Waker::from(alarm.clone());
    loop {
        for (number, actor) in actors.iter_mut().enumerate() {
            let began = Instant::now();
            while let Some(future) = &mut actor.future {
                alarm.rang.store(false, Ordering::SeqCst);
                match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    Poll::Ready(ended) => {
                        actor.future = None;
                        actor.ended = Some(ended);
                    }
                    Poll::Pending if lock(board).open().any(|waiting| waiting.actor == number) => break,
                    // Something is sealed in another thread.
                    Poll::Pending => {
                        while !alarm.rang.load(Ordering::SeqCst) {
                            std::thread::park_timeout(Duration::from_secs(1));
                            assert!(began.elapsed() < PATIENCE, "{} waits for nothing that will come", actor.name);
                        }
                    }
                }
            }
        }
        if !actors.iter().any(Actor::is_at_work) {
            return;
        }
        let Some((ticket, fate)) = choose(actors) else {
            for actor in actors.iter_mut() {
                actor.future = None;
            }
            return;
        };
        let mut guard = lock(board);
        let waiting = guard.open().find(|waiting| waiting.ticket == ticket).expect("it waits");
        let (number, place, request) = (waiting.actor, waiting.place, waiting.request.clone());
        // A server that does not answer has given nobody its lock: the session is over.
        let fate = match fate {
            Fate::Lost | Fate::Late if place == LOCKS => Fate::Refused(StoreErrorKind::Unavailable),
            fate => fate,
        };
        let answer = match fate {
            Fate::Refused(kind) => Answer::Failed(kind),
            Fate::DiesBefore | Fate::Late => Answer::Failed(StoreErrorKind::Unavailable),
            Fate::Done | Fate::Lost | Fate::DiesAfter => guard.take_place(number, place, &request),
        };
        let told = match fate {
            Fate::Lost => Answer::Failed(StoreErrorKind::Unavailable),
            _ => answer.clone(),
        };
        guard.answer(ticket, told);
        drop(guard);
        after(&Event { actor: number, place, request: &request, fate, answer: &answer });
        if matches!(fate, Fate::DiesBefore | Fate::DiesAfter) {
            actors[number].future = None;
            // Its session ends with it.
            lock(board).held.values_mut().for_each(|holders| {
                holders.remove(&number);
            });
        }
    }
}

/// A line about a call, for the trace of a failure.
pub fn line(actor: &str, places: &[&str], event: &Event<'_>) -> String {
    let place = if event.place == LOCKS { "lock" } else { places[event.place] };
    let answer = match event.answer {
        Answer::Bytes(bytes) => format!("{} bytes", bytes.len()),
        Answer::Listed(listed, more) => format!("{} objects{}", listed.len(), if more.is_some() { " and more" } else { "" }),
        Answer::Head(listed) => if listed.is_some() { "there" } else { "not there" }.to_owned(),
        answer => format!("{answer:?}"),
    };
    let fate = if event.fate == Fate::Done { String::new() } else { format!(" [{:?}]", event.fate) };
    format!("{actor}: {} {place} {}: {answer}{fate}", event.request.verb(), event.request.name())
}
