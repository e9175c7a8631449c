//! Stories of the rules in `decide`, each with its edges.

mod back;
mod beside;
mod checked;
mod contact;
mod evidence;
mod failing;
mod floor;
mod groups;
mod judged;
mod once;
mod pace;
mod restart;
mod rolling;
