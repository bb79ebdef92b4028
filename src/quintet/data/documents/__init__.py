"""Documents → drafts of questions and answers, each with the passage it rests on."""
