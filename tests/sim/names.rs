//! Agents and name servers: what they say is obeyed, and what is no answer changes nothing.
//!
//! Two servers of three have agents that change their minds, talk nonsense or say nothing. The third has a name, whose name server answers,
//! lies, says that there is no such name, is silent or is not there. In the end all of them tell the truth.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use proxy_wasm_sim::{Behaviour, Faults, Peer, Process, Request, RequestId};
use serde_json::json;

use crate::scenario::{self, Broken, WORKERS};
use crate::{api, module, reference};

const PEERS: [&str; 2] = ["10.0.0.1:80", "10.0.0.2:80"];
const NAME: &str = "shop.example";
const NAME_SERVER: &str = "10.0.0.53:53";

/// The addresses that the name has, by turns.
const ADDRESSES: [&[&str]; 3] = [&["10.0.1.1"], &["10.0.1.2"], &["10.0.1.1", "10.0.1.2"]];
/// What a liar says.
const LIE: &str = "10.6.6.6";

/// What an agent may say. Of the last three nothing can be made.
const WORDS: [&str; 9] = [
    "up ready 50%\n",
    "up ready 100%\n",
    "drain\n",
    "down\n",
    "maint\n",
    "ready 20%\n",
    "",
    "\u{7f} 101 %%\n",
    "<html>\n",
];

/// What a name server says.
#[derive(Clone, Copy, Debug)]
enum Speech {
    Truth(usize),
    NoSuchName,
    /// The answer to another question, by its number.
    OtherNumber,
    /// To a question for another name.
    OtherName,
    CutOff,
    Noise,
}

/// All answers are in two seconds, and ask again after five.
const SETTLED: Duration = Duration::from_secs(9);

fn answer(speech: Speech, question: &[u8]) -> Vec<u8> {
    let said = |addresses: &[&str]| {
        let addresses: Vec<IpAddr> = addresses.iter().filter_map(|address| address.parse().ok()).collect();
        durpina_sim::name_server_answer(question, &HashMap::from([(NAME.to_owned(), (addresses, 5))]))
    };
    match speech {
        Speech::Truth(at) => said(ADDRESSES[at]),
        Speech::NoSuchName => durpina_sim::name_server_answer(question, &HashMap::new()),
        Speech::OtherNumber => {
            let mut lie = said(&[LIE]);
            lie[2] ^= 0x55;
            lie
        }
        Speech::OtherName => {
            let mut lie = said(&[LIE]);
            lie[15] = b'x';
            lie
        }
        Speech::CutOff => said(&[LIE, LIE])[..30].to_vec(),
        Speech::Noise => b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
    }
}

struct Names<'p> {
    process: &'p mut Process,
    words: [Rc<RefCell<&'static str>>; PEERS.len()],
    speech: Rc<Cell<Speech>>,
    sent: Vec<RequestId>,
}

/// The run of a seed.
pub(crate) fn run(seed: u64, is_traced: bool) -> Result<(), Broken> {
    scenario::traced(reference::envoy(module(), seed), is_traced, |process| {
        let words = PEERS.map(|_| Rc::new(RefCell::new(WORDS[0])));
        Names { process, words, speech: Rc::new(Cell::new(Speech::Truth(0))), sent: Vec::new() }.run()
    })
}

impl Names<'_> {
    fn run(&mut self) -> Result<(), Broken> {
        for (name, words) in PEERS.iter().zip(&self.words) {
            let words = Rc::clone(words);
            let peer = Peer::speaking(move |_| words.borrow().as_bytes().to_vec());
            self.process.world().peers.insert((*name).to_owned(), peer);
        }
        for address in ADDRESSES[2] {
            let peer = Peer::speaking(|_| WORDS[1].as_bytes().to_vec());
            self.process.world().peers.insert(format!("{address}:80"), peer);
        }
        let speech = Rc::clone(&self.speech);
        let name_server = Peer::speaking(move |question| answer(speech.get(), question));
        self.process.world().peers.insert(NAME_SERVER.to_owned(), name_server);
        let servers = [PEERS[0], PEERS[1], &format!("{NAME}:80")].map(|server| format!("{server} weight=10"));
        let monitor = json!({ "name": "haproxy-agent-check", "interval": "1s", "schedule": "all", "timeout": "800ms" });
        let filter = json!({
            "upstreams": { "web": { "servers": servers, "monitors": [monitor] } },
            "upstream": "web",
            "resolver": "10.0.0.53",
            "resolver_ipv6": false,
            "admin": api::admin(),
            "envoy": { "access_log": true },
        });
        self.process.start(&reference::plugins(&filter)).map_err(|refused| refused.to_string())?;
        self.process.set_faults(Faults { preempt: 8, longest_wait: Duration::from_millis(3), trap: 0 });
        for _ in 0..16 {
            let is_of_agent = self.process.rng().one_in(2);
            if is_of_agent {
                self.change_a_word();
            } else {
                self.change_the_name_server();
            }
            for _ in 0..2 {
                self.sent.push(self.process.send(Request::get("/")));
            }
            let wait = self.process.rng().between(Duration::ZERO, Duration::from_millis(1_000));
            self.pass(wait)?;
        }
        self.process.set_faults(Faults::default());
        self.truth()
    }

    fn pass(&mut self, time: Duration) -> Result<(), Broken> {
        self.process.run_for(time).map_err(|crash| format!("the host crashed: {crash}"))
    }

    fn change_a_word(&mut self) {
        let at = usize::from(self.process.rng().one_in(2));
        let word = self.process.rng().choose(&WORDS).copied().unwrap_or_default();
        *self.words[at].borrow_mut() = word;
        self.process.note(format_args!("the agent of {} says {word:?}", PEERS[at]));
    }

    fn change_the_name_server(&mut self) {
        let lies = [
            Speech::NoSuchName,
            Speech::OtherNumber,
            Speech::OtherName,
            Speech::CutOff,
            Speech::Noise,
            Speech::Truth(0),
        ];
        let chance = self.process.rng().below(8);
        let (behaviour, speech) = match chance {
            0 => (Behaviour::Hangs, self.speech.get()),
            1 => (Behaviour::Refuses, self.speech.get()),
            2..=4 => (Behaviour::Answers, self.process.rng().choose(&lies).copied().unwrap_or(Speech::Noise)),
            truth => (Behaviour::Answers, Speech::Truth(usize::try_from(truth - 5).unwrap())),
        };
        self.process.world().peer(NAME_SERVER).behaviour = behaviour;
        self.speech.set(speech);
        self.process.note(format_args!("the name server {behaviour:?} {speech:?}"));
    }

    /// All say what is so: then that is what the workers know, and do.
    fn truth(&mut self) -> Result<(), Broken> {
        let (share, weight) = [("up ready 20%\n", 2), ("up ready 50%\n", 5), ("up ready 100%\n", 10)]
            [usize::try_from(self.process.rng().below(3)).unwrap()];
        let out = ["drain\n", "down\n", "maint\n"][usize::try_from(self.process.rng().below(3)).unwrap()];
        let own = usize::try_from(self.process.rng().below(3)).unwrap();
        *self.words[0].borrow_mut() = share;
        *self.words[1].borrow_mut() = out;
        self.process.world().peer(NAME_SERVER).behaviour = Behaviour::Answers;
        self.speech.set(Speech::Truth(own));
        self.process.note(format_args!("all say what is so: {share:?} {out:?} {:?}", ADDRESSES[own]));
        self.pass(SETTLED)?;
        let before = self.sent.len();
        // In each worker three rounds of the weights 2 and 10: where its round stands when they change is chance (seed 355).
        for turn in 0..18 * WORKERS {
            self.sent.push(self.process.send(Request::get("/").at(turn % WORKERS)));
        }
        self.pass(Duration::from_millis(200))?;
        for worker in 0..WORKERS {
            let document = api::upstream(self.process, worker);
            let peers = &document["peers"];
            let is_true = peers[0]["state"] == "up"
                && peers[0]["weight"] == weight
                && peers[1]["in_use"] == false
                && peers[2]["state"] == "up";
            if !is_true {
                return Err(format!("the agents say {share:?} and {out:?}, {NAME} is there: {document}"));
            }
        }
        if let Some(trap) = self.process.traps().first() {
            return Err(format!("the filter trapped: {trap}"));
        }
        self.attempts(before, ADDRESSES[own])
    }

    /// No request went to an address that nobody named, and of the last ones none went to a server that is out, or has moved.
    fn attempts(&self, last: usize, own: &[&str]) -> Result<(), Broken> {
        let mut met = [false; 2];
        for (number, id) in self.sent.iter().enumerate() {
            let Some(outcome) = self.process.outcome(*id) else { return Err(format!("{id:?} never ended")) };
            let is_last = number >= last;
            if outcome.status != Some(200) && (is_last || !outcome.by_module) {
                return Err(format!("a client got {outcome:?}"));
            }
            for attempt in &outcome.attempts {
                let of_name = |addresses: &[&str]| addresses.iter().any(|it| attempt.address == format!("{it}:80"));
                let may = if is_last { of_name(own) } else { of_name(ADDRESSES[2]) || attempt.address == PEERS[1] };
                if !may && attempt.address != PEERS[0] {
                    return Err(format!("{id:?} went to {}", attempt.address));
                }
                met[usize::from(attempt.address != PEERS[0])] |= is_last;
            }
        }
        if met == [true; 2] {
            Ok(())
        } else {
            Err(format!("of a server and a name one got nothing: {met:?}"))
        }
    }
}
