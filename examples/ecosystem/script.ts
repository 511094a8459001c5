/** A tool call as a model writes it. */
export interface WrittenCall {
  readonly name: string;
  readonly args: Readonly<Record<string, unknown>>;
}

/** What a scripted model does: asked by a person it writes `call`; shown what a tool gave, it says that it has read it. */
export class Script {
  call: WrittenCall;
  /** Everything the model was shown, one text after the other. */
  readonly shown: string[] = [];

  constructor(call: WrittenCall) {
    this.call = call;
  }

  /** @returns a tool call, or the answer to the person */
  next(isResult: boolean, shown: string): WrittenCall | string {
    this.shown.push(shown);
    return isResult ? `I was shown ${shown.length} characters.` : this.call;
  }
}
