// #region contract
import { auditSinkContract } from '@hmcp/testing/contracts';
import { type Disk, diskOf, openSink } from './sink.js';

auditSinkContract('the sink of our archive', async () => {
  const disk: Disk = diskOf();
  return {
    open: async () => openSink(disk),
    stored: async () => disk.lines.map((line) => JSON.parse(line)),
    fail: async () => {
      disk.full = true;
    },
    close: async () => undefined,
  };
});
// #endregion contract
