/** Who the person is on; shown on every page of a visit. */
export interface Banner {
  readonly name: string;
  readonly birthDate: string;
}
