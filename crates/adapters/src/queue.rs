//! Calls that wait to be made on nginx, and those under way.
//!
//! There, a root context that has two calls under way at a time loses a connection slot for good, and one that calls while a reply is
//! being handled ends its worker. So calls wait here, in the memory that all root contexts of a worker share, and each root context makes
//! one of them at its tick, whosever it is.

use std::cell::RefCell;
use std::collections::VecDeque;

use durpina_host::{Call, CallId, Failure, Reply, LONGEST_REPLY};

use crate::abi::{status, Abi, HttpCall, Map, Status};
use crate::helper::{self, Asked};

/// How often a connection is tried again that seems to be refused.
const ASKED_AGAIN: u8 = 2;

/// A call that is not made yet, or not over yet.
struct Waiting {
    id: u32,
    /// The root context whose filter waits for the reply; `None` if it does not any more.
    owner: Option<u32>,
    call: Call,
    /// How often it was asked before.
    asked: u8,
}

/// A call that is over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Over {
    /// The root context whose filter waits for it.
    pub(crate) owner: u32,
    pub(crate) id: CallId,
    pub(crate) reply: Reply,
}

/// The calls of one worker.
#[derive(Default)]
pub(crate) struct Queue {
    last: RefCell<u32>,
    waiting: RefCell<VecDeque<Waiting>>,
    /// By root context and the host's token.
    under_way: RefCell<Vec<(u32, u32, Waiting)>>,
}

impl Queue {
    /// Takes a call in.
    pub(crate) fn add(&self, owner: u32, call: &Call) -> CallId {
        let id = self.last.borrow().wrapping_add(1);
        *self.last.borrow_mut() = id;
        let waiting = Waiting { id, owner: Some(owner), call: call.clone(), asked: 0 };
        self.waiting.borrow_mut().push_back(waiting);
        CallId::Reply(id)
    }

    /// Nobody waits for this call any more. One that is under way stays so: the host cannot end it.
    pub(crate) fn forget(&self, id: CallId) {
        let CallId::Reply(id) = id else { return };
        self.waiting.borrow_mut().retain(|waiting| waiting.id != id);
        for (.., waiting) in self.under_way.borrow_mut().iter_mut().filter(|(.., waiting)| waiting.id == id) {
            waiting.owner = None;
        }
    }

    /// Makes the next call in this root context, unless it has one under way. Returns a call that could not be made.
    pub(crate) fn make_next(&self, abi: &impl Abi, root: u32) -> Option<Over> {
        if self.under_way.borrow().iter().any(|(by, ..)| *by == root) {
            return None;
        }
        let waiting = self.waiting.borrow_mut().pop_front()?;
        match make(abi, &waiting.call) {
            Ok(token) => {
                self.under_way.borrow_mut().push((root, token, waiting));
                None
            }
            Err(Status(status)) => {
                let reply = Reply::NotMade(format!("nginx refused the call with status {status}"));
                waiting.owner.map(|owner| Over { owner, id: CallId::Reply(waiting.id), reply })
            }
        }
    }

    /// Reads a reply, in its callback.
    pub(crate) fn reply(&self, abi: &impl Abi, token: u32) -> Option<Over> {
        let at = self.under_way.borrow().iter().position(|(_, known, _)| *known == token)?;
        let (.., mut waiting) = self.under_way.borrow_mut().swap_remove(at);
        let owner = waiting.owner?;
        let reply = read(abi, &waiting.call);
        // A server that closes at once looks like one that refuses, now and then.
        let is_doubtful = reply == Reply::Failed(Failure::Connect) && matches!(Asked::of(&waiting.call), Asked::Tcp);
        if is_doubtful && waiting.asked < ASKED_AGAIN {
            waiting.asked += 1;
            self.waiting.borrow_mut().push_front(waiting);
            return None;
        }
        Some(Over { owner, id: CallId::Reply(waiting.id), reply })
    }
}

fn make(abi: &impl Abi, call: &Call) -> Result<u32, Status> {
    let timeout = u32::try_from(durpina_host::millis(call.timeout)).unwrap_or(u32::MAX);
    let to = call.name.clone().unwrap_or_else(|| call.to.to_string());
    let asked = Asked::of(call);
    if let Some(path) = helper::path(&asked, &to) {
        let headers = [(":method", "GET"), (":path", path.as_str()), (":authority", "durpina")];
        return abi.http_call(&HttpCall { to: &call.cluster, headers: &headers, body: &[], timeout });
    }
    let Asked::Http { method, path, authority, headers, body } = asked else { return Err(Status::NOT_FOUND) };
    let mut all = vec![(":method", method), (":path", path), (":authority", authority)];
    all.extend(headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    abi.http_call(&HttpCall { to: &to, headers: &all, body, timeout })
}

fn read(abi: &impl Abi, call: &Call) -> Reply {
    let asked = Asked::of(call);
    let outcome = abi.header(Map::Call, ":dispatch_status").ok().flatten().unwrap_or_default();
    let outcome = String::from_utf8_lossy(&outcome);
    let answer = || Some((status(abi, Map::Call)?, abi.call_body(LONGEST_REPLY).unwrap_or_default()));
    match (asked, &*outcome) {
        (Asked::Http { .. }, "ok") => {
            answer().map_or(Reply::Failed(Failure::Protocol), |(status, body)| Reply::Http(status, body))
        }
        (_, "timeout") => Reply::Failed(Failure::Timeout),
        // Mostly there was none: nginx logs which it was, and does not tell here.
        (Asked::Http { .. }, "broken connection") => Reply::Failed(Failure::Connect),
        (Asked::Http { .. }, "reader failure") => Reply::Failed(Failure::Protocol),
        (Asked::Http { .. }, _) => Reply::NotMade(outcome.into_owned()),
        (asked, "ok") => match answer() {
            Some((200, body)) => helper::read(&asked, body),
            Some((status, _)) => Reply::NotMade(format!("the helper answers with status {status}")),
            None => Reply::NotMade("the helper does not speak HTTP".to_owned()),
        },
        (_, _) => Reply::NotMade(format!("the helper cannot be reached ({outcome}): is its server there?")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use durpina_host::CallKind;

    use super::*;
    use crate::fake::Fake;

    const MAIN: u32 = 7;
    const CALLER: u32 = 8;

    fn call(kind: CallKind) -> Call {
        let to = "10.0.0.1:80".parse().unwrap();
        Call { to, name: None, timeout: Duration::from_millis(1_500), cluster: "unix:/run/h".to_owned(), kind }
    }

    fn http() -> Call {
        call(CallKind::Http {
            method: "GET".to_owned(),
            path: "/up".to_owned(),
            authority: "web".to_owned(),
            headers: vec![("x-a".to_owned(), "1".to_owned())],
            body: b"b".to_vec(),
        })
    }

    fn replies(abi: &Fake, outcome: &str, status: Option<&str>, body: &str) {
        abi.headers.borrow_mut().clear();
        abi.set_header(Map::Call, ":dispatch_status", outcome);
        status.iter().for_each(|status| abi.set_header(Map::Call, ":status", status));
        *abi.call_body.borrow_mut() = body.as_bytes().to_vec();
    }

    #[test]
    fn a_root_context_makes_one_call_at_a_time_whosever_it_is() {
        let (abi, queue) = (Fake::nginx(), Queue::default());
        let ids: Vec<CallId> = (0..4).map(|_| queue.add(MAIN, &http())).collect();
        assert_eq!(abi.opened.borrow().len(), 0, "none is made before a tick");
        for root in [MAIN, CALLER, MAIN, CALLER] {
            assert_eq!(queue.make_next(&abi, root), None);
        }
        assert_eq!(abi.opened.borrow().len(), 2);
        let made = "10.0.0.1:80 :method=GET :path=/up :authority=web x-a=1 \"b\" within 1500 ms";
        assert_eq!(abi.opened.borrow()[0], made);
        replies(&abi, "ok", Some("200"), "fine");
        let over = queue.reply(&abi, 2).unwrap();
        assert_eq!(over, Over { owner: MAIN, id: ids[1], reply: Reply::Http(200, b"fine".to_vec()) });
        assert_eq!(queue.reply(&abi, 2), None, "only once");
        queue.forget(ids[0]);
        assert_eq!(queue.reply(&abi, 1), None, "nobody waits for it");
        queue.forget(ids[2]);
        assert_eq!((queue.make_next(&abi, MAIN), queue.make_next(&abi, CALLER)), (None, None));
        assert_eq!(abi.opened.borrow().len(), 3);
    }

    #[test]
    fn what_became_of_a_call_is_read_before_its_answer() {
        let (abi, queue) = (Fake::nginx(), Queue::default());
        let mut tokens = 0;
        let mut ask = |call: Call, outcome: &str, status: Option<&str>, body: &str| {
            queue.add(MAIN, &call);
            assert_eq!(queue.make_next(&abi, MAIN), None);
            tokens += 1;
            replies(&abi, outcome, status, body);
            queue.reply(&abi, tokens).unwrap().reply
        };
        let failed = Reply::Failed;
        assert_eq!(ask(http(), "timeout", None, ""), failed(Failure::Timeout));
        assert_eq!(ask(http(), "broken connection", None, ""), failed(Failure::Connect));
        assert_eq!(ask(http(), "reader failure", None, ""), failed(Failure::Protocol));
        assert_eq!(ask(http(), "ok", None, ""), failed(Failure::Protocol));
        assert!(matches!(ask(http(), "resolver failure", None, ""), Reply::NotMade(_)));
        let agent = || call(CallKind::Tcp(Vec::new()));
        assert_eq!(ask(agent(), "ok", Some("200"), "up\n"), Reply::Bytes(b"up\n".to_vec()));
        assert_eq!(ask(agent(), "timeout", None, ""), failed(Failure::Timeout));
        assert!(matches!(ask(agent(), "ok", Some("404"), "up"), Reply::NotMade(_)), "no helper");
        assert!(matches!(ask(agent(), "broken connection", None, ""), Reply::NotMade(_)), "no helper");
        let connected = ask(call(CallKind::Connect), "ok", Some("200"), "connect=0.000 header=- status=504\n");
        assert_eq!(connected, Reply::Connected);
        assert!(abi.opened.borrow().last().unwrap().starts_with("unix:/run/h :method=GET :path=/tcp?peer=10.0.0.1:80"));
    }

    #[test]
    fn a_server_with_a_name_is_asked_by_its_name() {
        let (abi, queue) = (Fake::nginx(), Queue::default());
        for call in [http(), call(CallKind::Connect)] {
            queue.add(MAIN, &Call { name: Some("web:80".to_owned()), ..call });
        }
        assert_eq!((queue.make_next(&abi, MAIN), queue.make_next(&abi, CALLER)), (None, None));
        assert!(abi.opened.borrow()[0].starts_with("web:80 :method=GET :path=/up"), "{:?}", abi.opened);
        assert!(
            abi.opened.borrow()[1].starts_with("unix:/run/h :method=GET :path=/tcp?peer=web:80 "),
            "{:?}",
            abi.opened
        );
    }

    #[test]
    fn a_connection_that_seems_refused_is_tried_again_before_that_is_believed() {
        let (abi, queue) = (Fake::nginx(), Queue::default());
        let id = queue.add(MAIN, &call(CallKind::Connect));
        let mut over = None;
        for token in 1..=3 {
            assert_eq!(over, None, "asked {} times", token - 1);
            assert_eq!(queue.make_next(&abi, MAIN), None);
            replies(&abi, "ok", Some("200"), "connect=- header=- status=502\n");
            over = queue.reply(&abi, token);
        }
        assert_eq!(over, Some(Over { owner: MAIN, id, reply: Reply::Failed(Failure::Connect) }));
    }

    #[test]
    fn a_call_that_cannot_be_made_says_nothing_of_the_server() {
        let (abi, queue) = (Fake::nginx(), Queue::default());
        queue.add(MAIN, &http());
        abi.refuses.set(Some(10));
        let over = queue.make_next(&abi, CALLER).unwrap();
        assert!(over.owner == MAIN && matches!(over.reply, Reply::NotMade(_)), "{over:?}");
    }
}
