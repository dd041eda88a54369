//! Several RTMP URLs at once. Pure.

use super::{Location, LocationError};

/// What is wrong with one of them. The text holds nothing of it but its scheme.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocationsError {
    /// The only one, or there is none.
    #[error("{0}")]
    Only(LocationError),
    /// One of several.
    #[error("destination {number} of {count}: {error}")]
    OneOf {
        /// Which, from 1.
        number: usize,
        /// Of how many.
        count: usize,
        /// What is wrong with it.
        error: LocationError,
    },
}

/// Parses all. One that was named before is left out: a server takes a stream once.
pub fn parse_locations(urls: impl ExactSizeIterator<Item: AsRef<str>>) -> Result<Vec<Location>, LocationsError> {
    let count = urls.len();
    let mut locations = Vec::with_capacity(count);
    for (index, url) in urls.enumerate() {
        let location = Location::parse(url.as_ref()).map_err(|error| match count {
            1 => LocationsError::Only(error),
            _ => LocationsError::OneOf { number: index + 1, count, error },
        })?;
        if !locations.contains(&location) {
            locations.push(location);
        }
    }
    Ok(locations)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(urls: &[&str]) -> Result<Vec<Location>, LocationsError> {
        parse_locations(urls.iter().copied())
    }

    #[test]
    fn malformed_one_of_several_is_named_by_its_number() {
        let error = parse(&["rtmp://h/app/key", "rtmp://h:0/app/s3cret"]).map_err(|error| error.to_string());
        let error = error.expect_err("port 0");
        assert!(error.starts_with("destination 2 of 2: the port") && !error.contains("s3cret"), "{error}");
        let error = parse(&["rtmp://h:0/app/s3cret"]).map_err(|error| error.to_string());
        assert!(error.expect_err("port 0").starts_with("the port"));
    }

    #[test]
    fn the_same_stream_is_taken_once() {
        let hosts = |urls: &[&str]| parse(urls).map(|all| all.into_iter().map(|one| one.host).collect::<Vec<_>>());
        let urls = ["rtmp://b/app/key", "rtmp://a/app/key", "rtmp://b:1935/app/key"];
        assert_eq!(hosts(&urls), Ok(vec!["b".to_owned(), "a".to_owned()]));
        assert_eq!(parse(&["rtmp://a/app/key", "rtmp://a/app/other"]).map(|all| all.len()), Ok(2));
        assert_eq!(parse(&[]), Ok(Vec::new()));
    }
}
