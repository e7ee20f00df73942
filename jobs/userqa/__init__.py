"""Questions and answers about users, to train on."""
