import type { PatientTool } from '@hmcp/core';
import type { CallToolResult } from '@modelcontextprotocol/client';
import type * as z from 'zod';

/** An answer as its contract has it; `unreadable` when it has another shape. */
export type ContractAnswer<O extends z.ZodType> = { readonly answer: z.output<O> } | { readonly unreadable: true };

/**
 * Reads an answer by its contract: `structuredContent`; where a server sends none, the JSON of its only text, else that text as it
 * is, else its list of contents.
 * @throws {Error} a fixed sentence when the tool reports an error
 */
export async function answerOf<O extends z.ZodType>(
  contract: PatientTool<z.ZodObject, O>,
  result: CallToolResult,
): Promise<ContractAnswer<O>> {
  if (result.isError === true) throw new Error(`"${contract.name}" reported an error`);
  for (const reading of readings(result)) {
    const parsed = await contract.output.safeParseAsync(reading);
    if (parsed.success) return { answer: parsed.data };
  }
  return { unreadable: true };
}

function readings({ structuredContent, content }: CallToolResult): readonly unknown[] {
  if (structuredContent !== undefined) return [structuredContent];
  const [only, ...rest] = content;
  if (only?.type !== 'text' || rest.length > 0) return [content];
  try {
    return [JSON.parse(only.text), only.text];
  } catch {
    return [only.text];
  }
}
