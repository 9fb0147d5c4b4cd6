//! Owns the agent.
