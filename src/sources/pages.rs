//! `pages: follow`: the pages of one answer, within the origin, each once, joined without taking
//! their elements apart.

use std::collections::HashSet;
use std::num::NonZeroU32;

use bytes::Bytes;
use http::Uri;
use http::uri::PathAndQuery;

use super::Reason;
use super::attempt_error::AttemptError;
use super::link_header;

/// The pages read so far. Their number is bounded by `max_pages`, their size by whoever reads them.
#[derive(Debug)]
pub(super) struct PageLoop<'a> {
    origin: &'a Uri,
    limit: NonZeroU32,
    current: PathAndQuery,
    visited: HashSet<PathAndQuery>,
    texts: Vec<Bytes>,
}

impl<'a> PageLoop<'a> {
    pub(super) fn new(origin: &'a Uri, first: &PathAndQuery, max_pages: NonZeroU32) -> Self {
        Self {
            origin,
            limit: max_pages,
            current: first.clone(),
            visited: HashSet::from([first.clone()]),
            texts: Vec::new(),
        }
    }

    /// Takes a page's text, which has to be an array.
    pub(super) fn add_page(&mut self, text: Bytes) -> Result<(), AttemptError> {
        let page = self.texts.len() + 1;
        if text.first() != Some(&b'[') {
            let detail = format!("page {page} is no array, which `pages: follow` expects");
            return Err(AttemptError::answered(Reason::Incomplete, detail));
        }
        self.texts.push(text);
        Ok(())
    }

    pub(super) fn count(&self) -> usize {
        self.texts.len()
    }

    /// Turns to the page that `reference` names, seen from the last one.
    pub(super) fn next_target(&mut self, reference: &str) -> Result<&PathAndQuery, AttemptError> {
        let page = self.texts.len();
        let incomplete = |detail: String| AttemptError::answered(Reason::Incomplete, detail);
        if page >= self.limit.get() as usize {
            return Err(incomplete(format!(
                "has more than the {page} pages that `max_pages` allows"
            )));
        }
        self.current =
            link_header::resolve(self.origin, &self.current, reference).map_err(|problem| {
                incomplete(format!("the `Link` of page {page} {problem}, expected the same origin"))
            })?;
        if !self.visited.insert(self.current.clone()) {
            return Err(incomplete(format!(
                "the `Link` of page {page} leads back to a page that was read already"
            )));
        }
        Ok(&self.current)
    }

    /// All elements in one array. A single page stays as it came.
    pub(super) fn join(mut self) -> Bytes {
        if self.texts.len() == 1 {
            return self.texts.swap_remove(0);
        }
        let mut all = Vec::with_capacity(self.texts.iter().map(Bytes::len).sum());
        all.push(b'[');
        let inner = self.texts.iter().map(|text| text[1..text.len() - 1].trim_ascii());
        for elements in inner.filter(|inner| !inner.is_empty()) {
            if all.len() > 1 {
                all.push(b',');
            }
            all.extend_from_slice(elements);
        }
        all.push(b']');
        all.into()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn joined(texts: &[&'static str]) -> Bytes {
        let origin = Uri::from_static("http://a.b");
        let mut pages = PageLoop::new(&origin, &PathAndQuery::from_static("/"), NonZeroU32::MAX);
        for text in texts {
            pages.add_page((*text).into()).unwrap();
        }
        pages.join()
    }

    #[test]
    fn elements_are_joined_as_they_are_written() {
        assert_eq!(joined(&["[ 1.10 ]"]), "[ 1.10 ]");
        assert_eq!(
            joined(&["[ 1.10, {\"a\" : []} ]", "[]", "[\n]", "[\"],[\"]", "[2]"]),
            "[1.10, {\"a\" : []},\"],[\",2]"
        );
        assert_eq!(joined(&["[]", "[ ]"]), "[]");
        assert_eq!(joined(&["[]", "[1]"]), "[1]");
    }
}
