"""Parts of a screen that know conversations, jobs or chats."""
