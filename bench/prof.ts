import { AsyncLocalStorage } from "node:async_hooks"; if (process.argv[5]) new AsyncLocalStorage().run(1, () => {});
import { guardedHandler, bareHandler, memoryAudit } from './servers.js';
import { answerOfTool, createMint, patientOf, RESOURCE, requestFor } from './workload.js';
const rows = answerOfTool(); const patient = patientOf(rows.results); const mint = await createMint(patient);
const h = process.argv[2]==="bare" ? bareHandler() : guardedHandler(mint.jwks, memoryAudit());
const token = await mint.token(Number(process.argv[4] ?? 1)); const N=Number(process.argv[3] ?? 3000);
let size = 0;
async function go(n:number){ const times:number[]=[]; for (let i=0;i<n;i++){ const {headers,body}=requestFor(token,patient,i); const b=performance.now(); const r=await h.fetch(new Request(RESOURCE,{method:'POST',headers,body})); size=(await r.text()).length; times.push(performance.now()-b);} return times; }
await go(500);
const c0=process.cpuUsage();
const t=(await go(N)).sort((a,b)=>a-b);
const c=process.cpuUsage(c0);
console.log(process.argv[2], 'p10',t[Math.floor(N*.1)]!.toFixed(3),'p50',t[N>>1]!.toFixed(3),'cpu/req us',((c.user+c.system)/N).toFixed(0),'bytes',size);
