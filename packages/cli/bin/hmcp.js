#!/usr/bin/env node
// Committed, and not built: npm links a command when it installs, before there is a dist.
import '../dist/main.js';
