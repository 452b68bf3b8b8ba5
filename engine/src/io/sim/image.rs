//! What a disk holds when no machine runs on it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// Directories and files with their bytes: found after a crash, or made up by a test.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    pub(super) root: BTreeMap<OsString, ImageNode>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ImageNode {
    File(Vec<u8>),
    Dir(BTreeMap<OsString, ImageNode>),
}

impl Image {
    /// Every file with its bytes, sorted by path. Paths begin with the first directory's name, without a slash.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, &[u8])> {
        let mut files = Vec::new();
        collect(&self.root, Path::new(""), &mut files);
        files
    }

    /// The bytes of a file, if there is one of that path.
    #[must_use]
    pub fn read(&self, path: &Path) -> Option<&[u8]> {
        let mut names = normal_names(path);
        let last = names.pop()?;
        let mut dir = &self.root;
        for name in names {
            match dir.get(&name)? {
                ImageNode::Dir(next) => dir = next,
                ImageNode::File(_) => return None,
            }
        }
        match dir.get(&last)? {
            ImageNode::File(bytes) => Some(bytes),
            ImageNode::Dir(_) => None,
        }
    }

    /// Puts a file there, with the directories above it; what was at one of those paths is replaced.
    pub fn write(&mut self, path: &Path, bytes: Vec<u8>) {
        let mut names = normal_names(path);
        let last = names.pop().expect("a file has a name");
        let mut dir = &mut self.root;
        for name in names {
            let node = dir.entry(name).or_insert_with(|| ImageNode::Dir(BTreeMap::new()));
            if let ImageNode::File(_) = node {
                *node = ImageNode::Dir(BTreeMap::new());
            }
            let ImageNode::Dir(next) = node else { unreachable!("made a directory above") };
            dir = next;
        }
        dir.insert(last, ImageNode::File(bytes));
    }
}

fn collect<'a>(dir: &'a BTreeMap<OsString, ImageNode>, path: &Path, into: &mut Vec<(PathBuf, &'a [u8])>) {
    for (name, node) in dir {
        match node {
            ImageNode::File(bytes) => into.push((path.join(name), bytes)),
            ImageNode::Dir(dir) => collect(dir, &path.join(name), into),
        }
    }
}

fn normal_names(path: &Path) -> Vec<OsString> {
    let name = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        _ => None,
    };
    path.components().filter_map(name).collect()
}
