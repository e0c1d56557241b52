//! Saying which step the work is in, and how long it took.

use std::time::Instant;

use flyhot_events::{Event, Step, Unit};

use crate::clock::since_us;

/// Emits the events of one node's steps.
pub(super) struct Steps<'a> {
    node: String,
    emit: &'a mut dyn FnMut(Event),
}

impl<'a> Steps<'a> {
    pub(super) fn new(node: String, emit: &'a mut dyn FnMut(Event)) -> Self {
        Self { node, emit }
    }

    pub(super) fn node(&self) -> &str {
        &self.node
    }

    pub(super) fn emit(&mut self, event: Event) {
        (self.emit)(event);
    }

    pub(super) fn begin(&mut self, step: Step) -> Begun {
        (self.emit)(Event::StepStarted {
            node: Some(self.node.clone()),
            step,
        });
        Begun {
            step,
            since: Instant::now(),
        }
    }

    pub(super) fn done(&mut self, begun: Begun, count: u64, unit: Unit) {
        let duration_us = since_us(begun.since);
        (self.emit)(Event::StepDone {
            node: Some(self.node.clone()),
            step: begun.step,
            duration_us,
            count,
            unit,
        });
    }
}

/// A step under way.
pub(super) struct Begun {
    step: Step,
    since: Instant,
}
