// Which words of two texts differ: the longest common subsequence of words stays unmarked.

const MOST_WORDS = 700; // the table of the comparison grows with the square

const words = (text) => text.split(/\s+/).filter((word) => word.length > 0);

// For each word of `text` whether it is outside the longest common subsequence with `other`; null where they are too long.
function differing(text, other) {
  const [a, b] = [words(text), words(other)];
  if (a.length > MOST_WORDS || b.length > MOST_WORDS) return null;
  const table = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      table[i][j] = a[i] === b[j] ? table[i + 1][j + 1] + 1 : Math.max(table[i + 1][j], table[i][j + 1]);
  const apart = Array(a.length).fill(true);
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    if (a[i] === b[j]) {
      apart[i++] = false;
      j++;
    } else if (table[i + 1][j] >= table[i][j + 1]) i++;
    else j++;
  }
  return apart;
}

// The text, its white space as it is, with its differing words in <mark>.
function marked(text, other) {
  const apart = other === null ? null : differing(text, other);
  if (apart === null) return [text];
  let next = 0;
  return text.split(/(\s+)/).map((piece) => (piece.trim() !== "" && apart[next++] ? el("mark", {}, piece) : piece));
}
