//! Change on the screen becomes lines, lines become messages, messages become turns.
