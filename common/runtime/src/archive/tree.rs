//! Tree: what an archive has held so far, and what may therefore not follow.

use std::collections::BTreeMap;

use icu_normalizer::DecomposingNormalizer;

use super::{
    path::{EntryPath, LinkTarget},
    refusal::{Bound, Refusal, echo},
};

/// How many symlinks one symlink may pass through: MAXSYMLINKS of Linux.
const FOLLOWS_MAX: u32 = 40;

/// How many steps all symlinks of an archive may take together.
///
/// The 200,000 symlinks that may be there, each 50 names long. Chains built to be slow
/// (40 x 500 names each) end here, after less than a second.
const LINK_STEPS_MAX: u64 = 10_000_000;

/// What an entry is, as far as other entries depend on it.
#[derive(Debug)]
pub(super) enum Entry {
    Folder,
    File,
    Link(LinkTarget),
}

/// The files, folders and symlinks that have been seen.
#[derive(Debug)]
pub(super) struct Tree {
    /// The first is the release's own folder.
    nodes: Vec<Node>,
}

#[derive(Debug)]
enum Node {
    /// Children by folded name.
    Folder(BTreeMap<String, Child>),
    File,
    Link(LinkTarget),
}

#[derive(Debug)]
struct Child {
    /// The name as written.
    name: String,
    node: usize,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node::Folder(BTreeMap::new())] }
    }

    /// Adds an entry.
    ///
    /// # Errors
    ///
    /// Refuses an entry that is there already, in whatever case or Unicode form, and one whose
    /// folder is missing or a symlink.
    pub(super) fn add(&mut self, path: &EntryPath, entry: Entry) -> Result<(), Refusal> {
        let at = || echo(path.as_str().as_bytes());
        let folder = self.folder_of(path)?;
        let node = self.nodes.len();
        let (_, name) = path.split();
        let Node::Folder(children) = &mut self.nodes[folder] else {
            return Err(Refusal::NoFolder { entry: at() });
        };
        if let Some(first) = children.get(&fold(name)) {
            return Err(Refusal::Duplicate { entry: at(), first: echo(first.name.as_bytes()) });
        }
        children.insert(fold(name), Child { name: name.to_owned(), node });
        self.nodes.push(match entry {
            Entry::Folder => Node::Folder(BTreeMap::new()),
            Entry::File => Node::File,
            Entry::Link(target) => Node::Link(target),
        });
        Ok(())
    }

    /// Follows every symlink through every other.
    ///
    /// # Errors
    ///
    /// Refuses the first symlink that leaves the release or does not end.
    pub(super) fn follow_links(&self) -> Result<(), Refusal> {
        let mut steps_left = LINK_STEPS_MAX;
        self.follow_links_in(&mut vec![0], "", &mut steps_left)
    }

    fn follow_links_in(
        &self,
        at: &mut Vec<usize>,
        path: &str,
        steps_left: &mut u64,
    ) -> Result<(), Refusal> {
        let Some(Node::Folder(children)) = at.last().map(|node| &self.nodes[*node]) else {
            return Ok(());
        };
        for child in children.values() {
            let path =
                if path.is_empty() { child.name.clone() } else { format!("{path}/{}", child.name) };
            match &self.nodes[child.node] {
                Node::File => {}
                Node::Folder(_) => {
                    at.push(child.node);
                    self.follow_links_in(at, &path, steps_left)?;
                    at.pop();
                }
                Node::Link(target) => {
                    let entry = || echo(path.as_bytes());
                    self.follow(at, target, steps_left).map_err(|astray| match astray {
                        Astray::Outside => Refusal::LinkEscape {
                            entry: entry(),
                            target: echo(target.as_str().as_bytes()),
                        },
                        Astray::Endless => Refusal::LinkLoop { entry: entry() },
                        Astray::Costly => Refusal::whole(Bound::LinkSteps, LINK_STEPS_MAX),
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Walks from the folder `from` as the kernel would. A part that does not exist is walked as
    /// if it were a folder, as the application may make it one.
    fn follow(
        &self,
        from: &[usize],
        target: &LinkTarget,
        steps_left: &mut u64,
    ) -> Result<(), Astray> {
        let mut at: Vec<Option<usize>> = from.iter().copied().map(Some).collect();
        let mut todo: Vec<&str> = target.as_str().split('/').rev().collect();
        let mut follows = 0;
        while let Some(name) = todo.pop() {
            *steps_left = steps_left.checked_sub(1).ok_or(Astray::Costly)?;
            if name.is_empty() || name == "." {
                continue;
            }
            if name == ".." {
                at.pop();
                if at.is_empty() {
                    return Err(Astray::Outside);
                }
                continue;
            }
            let child = at.last().copied().flatten().and_then(|folder| self.child(folder, name));
            match child.map(|node| (node, &self.nodes[node])) {
                None | Some((_, Node::File)) => at.push(None),
                Some((node, Node::Folder(_))) => at.push(Some(node)),
                Some((_, Node::Link(next))) => {
                    follows += 1;
                    if follows > FOLLOWS_MAX {
                        return Err(Astray::Endless);
                    }
                    todo.extend(next.as_str().split('/').rev());
                }
            }
        }
        Ok(())
    }

    fn folder_of(&self, path: &EntryPath) -> Result<usize, Refusal> {
        let mut folder = 0;
        let (Some(parents), _) = path.split() else {
            return Ok(folder);
        };
        let mut end = 0;
        for name in parents.split('/') {
            end += name.len() + 1;
            let entry = || echo(path.as_str().as_bytes());
            let Some(node) = self.child(folder, name) else {
                return Err(Refusal::NoFolder { entry: entry() });
            };
            folder = match &self.nodes[node] {
                Node::Folder(_) => node,
                Node::File => return Err(Refusal::NoFolder { entry: entry() }),
                Node::Link(_) => {
                    let link = echo(&path.as_str().as_bytes()[..end - 1]);
                    return Err(Refusal::ThroughLink { entry: entry(), link });
                }
            };
        }
        Ok(folder)
    }

    fn child(&self, folder: usize, name: &str) -> Option<usize> {
        let Node::Folder(children) = &self.nodes[folder] else {
            return None;
        };
        children.get(&fold(name)).filter(|child| child.name == name).map(|child| child.node)
    }
}

/// How a symlink ends badly.
enum Astray {
    Outside,
    Endless,
    Costly,
}

/// Returns what two names share that a file system might take for one.
///
/// Upper and then lower case is close to Unicode's case folding ("ß" and "SS" meet); the canonical
/// decomposition makes both spellings of "é" one.
fn fold(name: &str) -> String {
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    let form = DecomposingNormalizer::new_nfd();
    form.normalize(&form.normalize(name).to_uppercase().to_lowercase()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_some_file_system_takes_for_one_fold_to_one() {
        // promises.md §4 row 34.
        for (a, b) in [("README", "readme"), ("\u{e9}", "e\u{301}"), ("É", "e\u{301}"), ("ß", "SS")]
        {
            assert_eq!(fold(a), fold(b), "{a} {b}");
        }
        assert_ne!(fold("e"), fold("é"));
    }

    #[test]
    fn chains_of_symlinks_built_to_be_slow_end_at_the_limit() {
        // promises.md §4 row 37: work is bounded, not only size.
        let mut tree = Tree::new();
        let mut add = |name: String, target: String| {
            let path = EntryPath::parse(name.as_bytes()).unwrap();
            let target = LinkTarget::parse(&path, target.as_bytes()).unwrap();
            tree.add(&path, Entry::Link(target)).unwrap();
        };
        add("l0".to_owned(), ".".to_owned());
        for n in 1..=40 {
            add(format!("l{n}"), format!("{}l{}", "./".repeat(500), n - 1));
        }
        for n in 0..2000 {
            add(format!("slow{n}"), "l38".to_owned());
        }

        assert_eq!(
            tree.follow_links().unwrap_err().to_string(),
            "the archive exceeds the limit of 10000000 steps to follow all symlinks"
        );
    }
}
