/**
 * Reasons of audit records by which a reader of a log tells causes apart that a caller is not told. Whoever writes and whoever reads them
 * takes the words from here; the last one is how a reason begins.
 * @see protocol section 8
 */
export const AUDIT_REASONS = {
  invalidArguments: 'the arguments do not satisfy the input schema of the tool',
  noSuchTool: 'the server has no tool of that name',
  uncheckable: 'a part of the result cannot be verified',
} as const;
