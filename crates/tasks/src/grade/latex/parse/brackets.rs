//! What stands between brackets: groups, tuples, intervals, sets, absolute values, matrices.

use super::Parser;
use crate::grade::latex::node::{Function, Node};
use crate::grade::latex::token::Token;

impl Parser {
    pub(super) fn bracket(&mut self, sign: char) -> Option<Node> {
        match sign {
            'π' => Some(Node::Pi),
            '∞' => Some(Node::Infinity),
            '∅' => Some(Node::Set(Vec::new())),
            '|' => {
                self.bars += 1;
                let inside = self.sum()?;
                self.bars -= 1;
                self.expect('|')?;
                Some(Node::Apply(Function::Absolute, Box::new(inside)))
            }
            '⌊' => self.enclosed('⌋', Function::Floor),
            '⌈' => self.enclosed('⌉', Function::Ceiling),
            '{' => {
                self.at -= 1;
                self.group_or_list()
            }
            '(' | '[' | '⦃' | '⟨' => self.list(sign),
            _ => None,
        }
    }

    /// A group, which may hold `n \\choose k`, or a list that draws no brace.
    fn group_or_list(&mut self) -> Option<Node> {
        let start = self.at;
        if let Some(node) = self.group() {
            return Some(node);
        }
        self.at = start + 1;
        self.list('{')
    }

    fn enclosed(&mut self, close: char, function: Function) -> Option<Node> {
        let inside = self.sum()?;
        self.expect(close)?;
        Some(Node::Apply(function, Box::new(inside)))
    }

    /// What stands between brackets: one formula, or several with commas.
    fn list(&mut self, open: char) -> Option<Node> {
        let bars = std::mem::take(&mut self.bars);
        let mut items = Vec::new();
        if !self.sees('⦄') {
            items.push(self.set()?);
        }
        while self.take(',') || self.take(';') {
            items.push(self.set()?);
        }
        self.bars = bars;
        let close = match self.peek()? {
            Token::Sign(close) => *close,
            _ => return None,
        };
        self.at += 1;
        match (open, close) {
            ('⦃', '⦄') => Some(Node::Set(items)),
            ('{', '}') if items.len() > 1 => Some(Node::Set(items)),
            ('(', ')') | ('[', ']') | ('{', '}') if items.len() == 1 => {
                let only = items.pop()?;
                // `[{…}]` around a matrix is its bracket; `[5]` is 5 in brackets.
                Some(only)
            }
            ('⟨', '⟩') | ('(' | '[', ')' | ']') if items.len() > 1 => {
                Some(Node::Tuple(items, (open == '[', close == ']')))
            }
            _ => None,
        }
    }

    /// Rows of a matrix up to its end.
    pub(super) fn matrix(&mut self) -> Option<Node> {
        let mut rows: Vec<Vec<Node>> = Vec::new();
        let mut row = Vec::new();
        loop {
            match self.peek()? {
                Token::Command(name) if name == "end" => break,
                Token::Sign('⏎') => {
                    self.at += 1;
                    rows.push(std::mem::take(&mut row));
                }
                Token::Sign('&') => self.at += 1,
                _ => row.push(self.set()?),
            }
        }
        self.at += 1;
        if !row.is_empty() {
            rows.push(row);
        }
        let width = rows.first()?.len();
        (width > 0 && rows.iter().all(|row| row.len() == width)).then_some(Node::Matrix(rows))
    }
}
