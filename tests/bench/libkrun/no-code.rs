//! Empty: a package that names a dependency needs a target.
