//! Stories of the rules in `decide`, each with its edges.

mod back;
mod beside;
mod contact;
mod evidence;
mod failing;
mod floor;
mod judged;
mod pace;
mod restart;
mod rolling;
