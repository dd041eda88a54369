//! What was found: for people, a line each, and for programs.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// As it should be.
    Fine,
    /// Something does not work, or could be better.
    Warning,
    /// Nothing works without it.
    Problem,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) status: Status,
    what: String,
    found: String,
    advice: String,
}

impl Finding {
    fn new(status: Status, what: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { status, what: what.into(), found: found.into(), advice: advice.into() }
    }

    pub(crate) fn fine(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(Status::Fine, what, found, "")
    }

    pub(crate) fn warning(what: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(Status::Warning, what, found, advice)
    }

    pub(crate) fn problem(what: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(Status::Problem, what, found, advice)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:8} {}: {}", self.status.as_str(), self.what, self.found)?;
        if !self.advice.is_empty() {
            write!(f, "\n         → {}", self.advice)?;
        }
        Ok(())
    }
}

/// All of them, as JSON.
pub(crate) fn json(findings: &[Finding]) -> String {
    let all: Vec<_> = findings
        .iter()
        .map(|Finding { status, what, found, advice }| {
            serde_json::json!({"status": status.as_str(), "what": what, "found": found, "advice": advice})
        })
        .collect();
    serde_json::json!({ "findings": all }).to_string()
}
