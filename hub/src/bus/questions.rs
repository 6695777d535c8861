//! What this node asks the others, and their answers as they come.
//!
//! A question is published to all and has a deadline. Nodes that hold sockets and were heard lately are
//! expected to answer; who has not by then is named. Answers to a question that is over are passed over.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parking_lot::Mutex;
use protocol::{
    NodeId,
    envelope::{ConnectionFacts, Findings, Then},
};
use rustc_hash::FxBuildHasher;
use tokio::sync::Notify;

/// Most questions at a time: admins ask by hand, and each may hold a page of connections.
pub(super) const QUESTIONS_MAX: usize = 16;

/// As many questions are being asked as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{QUESTIONS_MAX} questions to other nodes are being asked")]
pub struct TooManyQuestions;

/// What became of a question to the other nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// How many connections were meant, on all nodes that answered.
    pub matching: u64,
    /// Those that are named, with their nodes, by id; of all nodes at most as many as were asked for of
    /// one.
    pub connections: Vec<(NodeId, ConnectionFacts)>,
    /// Nodes that hold sockets, as far as is known, and did not answer.
    pub missing: Vec<NodeId>,
    /// Whether nobody could be asked, the bus being away: there may be nodes that are not known here.
    pub unheard: bool,
}

impl Asked {
    /// Takes in what one node found. `limit` is how many connections are wanted in all.
    pub fn add(&mut self, found: Findings, limit: usize) {
        let Findings { node, matching, connections, .. } = found;
        self.matching = self.matching.saturating_add(matching);
        self.connections.extend(connections.into_iter().map(|facts| (node.clone(), facts)));
        self.connections.sort_unstable_by(|(_, a), (_, b)| a.id.as_str().cmp(b.id.as_str()));
        self.connections.truncate(limit);
    }
}

/// How many connections a question wants to be named.
pub fn limit(then: &Then) -> usize {
    match then {
        Then::List { limit, .. } => usize::try_from(*limit).unwrap_or(usize::MAX),
        Then::Close(_) => 0,
    }
}

/// The questions that wait for answers.
#[derive(Default)]
pub(super) struct Questions(Mutex<HashMap<u64, Waiting, FxBuildHasher>>);

struct Waiting {
    expected: HashMap<u64, NodeId, FxBuildHasher>,
    answered: HashSet<u64, FxBuildHasher>,
    limit: usize,
    asked: Asked,
    all: Arc<Notify>,
}

/// A question that waits. It is over when this is dropped.
pub(super) struct Question {
    pub(super) id: u64,
    /// All who are expected have answered.
    pub(super) all: Arc<Notify>,
    questions: Arc<Questions>,
}

impl Questions {
    /// Begins to wait for the answers of these, by their epochs.
    pub(super) fn begin(
        self: &Arc<Self>,
        expected: HashMap<u64, NodeId, FxBuildHasher>,
        limit: usize,
    ) -> Result<Question, TooManyQuestions> {
        let mut waiting = self.0.lock();
        if waiting.len() >= QUESTIONS_MAX {
            return Err(TooManyQuestions);
        }
        let (id, all) = (rand::random(), Arc::new(Notify::new()));
        let (answered, asked) = (HashSet::default(), Asked::default());
        waiting.insert(id, Waiting { expected, answered, limit, asked, all: Arc::clone(&all) });
        Ok(Question { id, all, questions: Arc::clone(self) })
    }

    /// A node has answered. Who was not expected may: it was not heard before. Twice counts once.
    pub(super) fn found(&self, sender: u64, found: Findings) {
        let mut waiting = self.0.lock();
        let Some(question) = waiting.get_mut(&found.inquiry) else { return };
        if !question.answered.insert(sender) {
            return;
        }
        question.expected.remove(&sender);
        question.asked.add(found, question.limit);
        if question.expected.is_empty() {
            question.all.notify_one();
        }
    }
}

impl Question {
    /// Whether there is nobody whose answer is waited for.
    pub(super) fn expects_nobody(&self) -> bool {
        let waiting = self.questions.0.lock();
        waiting.get(&self.id).is_none_or(|waiting| waiting.expected.is_empty())
    }

    /// What has come until now; who has not answered is missing.
    pub(super) fn end(self) -> Asked {
        let waiting = self.questions.0.lock().remove(&self.id);
        let waiting = waiting.expect("it waits until this is dropped");
        let mut missing: Vec<NodeId> = waiting.expected.into_values().collect();
        missing.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        Asked { missing, ..waiting.asked }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.questions.0.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use protocol::{Codec, DeviceType, Seq, Time, Transport};

    use super::*;

    fn facts(id: &str) -> ConnectionFacts {
        ConnectionFacts {
            id: id.parse().unwrap(),
            tenant: "default".parse().unwrap(),
            user: "ann".parse().unwrap(),
            device: "phone".parse().unwrap(),
            device_type: DeviceType::Unknown,
            app_version: String::new(),
            transport: Transport::WebSocket,
            codec: Codec::Json,
            address: None,
            connected_at: Time::default(),
            last: Seq(0),
            acked: Seq(0),
            queued_bytes: 0,
            live: true,
        }
    }

    fn found(question: &Question, node: &str, ids: &[&str]) -> Findings {
        Findings {
            inquiry: question.id,
            node: node.parse().unwrap(),
            matching: ids.len() as u64,
            connections: ids.iter().map(|id| facts(id)).collect(),
        }
    }

    fn expected(nodes: &[(u64, &str)]) -> HashMap<u64, NodeId, FxBuildHasher> {
        nodes.iter().map(|(epoch, name)| (*epoch, name.parse().unwrap())).collect()
    }

    #[tokio::test]
    async fn answers_are_merged_and_who_is_silent_is_named() {
        let questions = Arc::new(Questions::default());
        let nodes = expected(&[(1, "a"), (2, "b"), (3, "c")]);
        let question = questions.begin(nodes, 3).unwrap();
        questions.found(2, found(&question, "b", &["02", "05", "06"]));
        questions.found(2, found(&question, "b", &["02"]));
        questions.found(1, found(&question, "a", &["01", "04"]));
        // Of one that nobody knew.
        questions.found(9, found(&question, "new", &["03"]));
        let late = found(&question, "c", &["00"]);
        let asked = question.end();
        let shown: Vec<_> = asked
            .connections
            .iter()
            .map(|(node, facts)| (node.as_str(), facts.id.as_str()))
            .collect();
        assert_eq!(shown, [("a", "01"), ("b", "02"), ("new", "03")]);
        assert_eq!((asked.matching, asked.missing), (6, vec!["c".parse().unwrap()]));
        questions.found(3, late);
        assert!(questions.0.lock().is_empty());
    }

    #[tokio::test]
    async fn a_question_is_over_when_all_have_answered_and_when_it_is_dropped() {
        let questions = Arc::new(Questions::default());
        let question = questions.begin(expected(&[(1, "a")]), 1).unwrap();
        questions.found(1, found(&question, "a", &[]));
        question.all.notified().await;
        assert_eq!(question.end(), Asked::default());
        let all: Vec<_> =
            (0..QUESTIONS_MAX).map(|_| questions.begin(expected(&[]), 1).unwrap()).collect();
        assert_eq!(questions.begin(expected(&[]), 1).err(), Some(TooManyQuestions));
        drop(all);
        assert!(questions.begin(expected(&[]), 1).is_ok());
    }
}
